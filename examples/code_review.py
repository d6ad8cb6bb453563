"""Review a Python source tree: `python examples/code_review.py PATH [--out DIR] [--json] [--fail-under HEALTH]`.

    ReviewRequest > plan > ReviewPlan > read > SourceFile, one for each file
    SourceFile    > broken, structure, pitfalls, ... , ruff, bandit, radon, all at the same time > FileFindings
    SourceFile + FileFindings of every analyser, joined by file > join > ReviewedFile
    ReviewedFile, in batches > group > TreeReview, in packages
    TreeReview + TreeReview > merge > TreeReview, until it is complete
    TreeReview, complete > rank, the best of three > FixPlan
    ReviewPlan + TreeReview + FixPlan > report > Report > write > ReportFiles

It ends whatever comes first and however slow an analyser is. No agent knows how many files a package has, so none
can wait for the last one by a count, and a time limit would guess. Instead every part of a tree says how many files
the whole has: two incomplete parts make a bigger one until one is complete. A batch's timeout only shortens the wait
for a batch that will never be full; the result does not depend on it.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from code_review_parts.analysers import ANALYSERS, analyse
from code_review_parts.assembly import group_files, merge_parts, review_file
from code_review_parts.discovery import plan_review, read_files
from code_review_parts.model import (
    FileFindings,
    FileStep,
    FixPlan,
    Report,
    ReportFiles,
    ReviewedFile,
    ReviewPlan,
    ReviewRequest,
    SourceFile,
    Step,
    TreeReview,
)
from code_review_parts.page import write_files
from code_review_parts.scoring import STRATEGIES, choose_fixes, summarise
from code_review_parts.terminal import show_report
from code_review_parts.tools import TOOLS, Tool, run_tool
from flock import Artifact, BatchSpec, Context, EvalResult, Failure, Flock, JoinSpec

# A join keeps what it holds this long: more than the slowest analyser needs for the largest tree.
PATIENCE = timedelta(hours=1)
# Starting a tool costs more than its work on one file, so it gets several at once.
FILES_PER_PROCESS = BatchSpec(size=24, timeout=0.1)
FILES_PER_PART = BatchSpec(size=32, timeout=0.2)


def build_flock(tools: Sequence[Tool] = TOOLS) -> Flock:
    """Make a flock that answers every ReviewRequest with a Report."""
    flock = Flock(name="code-review")
    add_opening(flock, tools)
    for name in ANALYSERS:
        add_analyser(flock, name)
    for tool in tools:
        add_tool(flock, tool)
    add_assembly(flock, analysers=(*ANALYSERS, *(tool.name for tool in tools)))
    add_conclusion(flock)
    return flock


def add_opening(flock: Flock, tools: Sequence[Tool]) -> None:
    """Go from a request to the text of every file."""
    missing = tuple(tool.missing for tool in tools if tool.command() is None)

    def plan(request: ReviewRequest, ctx: Context) -> ReviewPlan:
        planned = plan_review(request, review=str(ctx.activation_id))
        return planned.model_copy(update={"notices": (*missing, *planned.notices)})

    flock.agent("plan").description("Lists the files to review.").consumes(ReviewRequest).calls(plan)
    flock.agent("read").description("Reads the files.").consumes(ReviewPlan).calls(read_files)


def add_analyser(flock: Flock, name: str) -> None:
    """Add one of our own analysers, an agent that sees one file at a time."""

    def look(source: SourceFile) -> FileFindings:
        return analyse(name, source)

    flock.agent(name).description(ANALYSERS[name].__doc__ or name).consumes(SourceFile).calls(look)


def add_tool(flock: Flock, tool: Tool) -> None:
    """Add an analyser with a process of its own, an agent that sees several files at a time."""

    async def check(sources: list[SourceFile]) -> list[FileFindings]:
        return await run_tool(tool, sources)

    (
        flock.agent(tool.name)
        .description(f"Looks at files with {tool.name}.")
        .consumes(SourceFile, batch=FILES_PER_PROCESS)
        .max_concurrency(2)
        .timeout(300)
        .calls(check)
    )


def add_assembly(flock: Flock, *, analysers: Sequence[str]) -> None:
    """Go from findings to files, from files to packages, from parts to the whole tree."""
    (
        flock.agent("stand-in")
        .description("Answers for an analyser that failed, so that its files are not lost.")
        .consumes(Failure, where=lambda failure: failure.agent in analysers)
        .calls(stand_in)
    )
    (
        flock.agent("join")
        .description("Joins what every analyser says about a file.")
        .consumes(SourceFile, *[FileFindings] * len(analysers), join=JoinSpec(by=file_of, within=PATIENCE))
        .calls(review_file)
    )
    flock.agent("group").description("Groups files into packages.").consumes(ReviewedFile, batch=FILES_PER_PART).calls(
        group_files
    )
    (
        flock.agent("merge")
        .description("Makes one part of two.")
        .consumes(TreeReview, TreeReview, where=incomplete, join=JoinSpec(by=review_of, within=PATIENCE))
        .prevent_self_trigger(False)  # noqa: FBT003 - the method's name says what it means
        .calls(merge_parts)
    )
    flock.agent("nothing").description("Ends the review of an empty tree.").consumes(
        ReviewPlan, where=lambda plan: not plan.files
    ).calls(empty_tree)


def add_conclusion(flock: Flock) -> None:
    """Go from a complete tree to the report."""
    (
        flock.agent("rank")
        .description("Chooses what to fix first.")
        .consumes(TreeReview, where=complete)
        .best_of(len(STRATEGIES), score=worth_of)
        .calls(Ranking())
    )
    (
        flock.agent("report")
        .description("Sums up the review.")
        .consumes(ReviewPlan, TreeReview, FixPlan, where=settled, join=JoinSpec(by=review_of, within=PATIENCE))
        .calls(sum_up)
    )
    flock.agent("write").description("Writes the report as JSON and HTML.").consumes(
        Report, where=lambda report: report.out is not None
    ).calls(write)


class Ranking:
    """Gives each candidate of one activation another strategy."""

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()

    async def __call__(self, tree: TreeReview, ctx: Context) -> FixPlan:
        """Give one candidate for what to fix first."""
        # No await between these lines, so candidates that run side by side take turns.
        key = str(ctx.activation_id)
        turn = self._turns[key]
        self._turns[key] += 1
        if self._turns[key] == len(STRATEGIES):
            del self._turns[key]
        return choose_fixes(tree, *STRATEGIES[turn])


async def stand_in(failure: Failure, ctx: Context) -> list[FileFindings]:
    """Say for each file of a failed analyser that nothing is known from it."""
    artifacts = [await ctx.board.get(one) for one in failure.inputs]
    sources = [one.payload for one in artifacts if one is not None and isinstance(one.payload, SourceFile)]
    notice = f"{failure.agent} failed: {failure.error_type}: {failure.message}"
    return [
        FileFindings(review=source.review, path=source.path, analyser=failure.agent, notices=(notice,))
        for source in sources
    ]


def empty_tree(plan: ReviewPlan) -> TreeReview:
    """Give the review of no files, which is complete."""
    return TreeReview(review=plan.review, expected=0)


def sum_up(plan: ReviewPlan, tree: TreeReview, fixes: FixPlan, ctx: Context) -> Report:
    """Give the report of a review; notices that many files share are named once."""
    notices = Counter(notice for file in tree.files for notice in file.notices)
    return Report(
        review=plan.review,
        root=plan.root,
        out=plan.out,
        reviewed_at=max(artifact.created_at for artifact in ctx.artifacts),
        summary=summarise(tree.packages),
        packages=tree.packages,
        plan=fixes,
        notices=(*plan.notices, *(f"{notice} (files: {count})" for notice, count in sorted(notices.items()))),
    )


def write(report: Report) -> ReportFiles:
    """Write the report where the request said."""
    return write_files(report, Path(report.out or "."))


def file_of(step: FileStep) -> tuple[str, str]:
    """Give the key that joins what belongs to one file."""
    return step.review, step.path


def review_of(step: Step) -> str:
    """Give the key that joins what belongs to one review."""
    return step.review


def complete(tree: TreeReview) -> bool:
    """Say whether this is the whole tree."""
    return tree.complete


def incomplete(tree: TreeReview) -> bool:
    """Say whether this is only a part of the tree."""
    return not tree.complete


def settled(step: Step) -> bool:
    """Accept everything but a part of the tree."""
    return not isinstance(step, TreeReview) or step.complete


def worth_of(result: EvalResult) -> float:
    """Give the score of a candidate: what a session on its plan is worth."""
    return sum(artifact.payload.score for artifact in result.artifacts if isinstance(artifact.payload, FixPlan))


flock = build_flock()


async def review(request: ReviewRequest, progress: Progress) -> Report:
    """Review a tree with a flock of its own, and show how far it is."""
    async with asyncio.TaskGroup() as group, build_flock() as reviewers:
        # The stream ends when the flock shuts down, which is before the group waits for its task.
        group.create_task(follow(reviewers.stream(ReviewPlan, ReviewedFile), progress))
        report = await reviewers.ask(request, returns=Report)
        await reviewers.run_until_idle()
    return report


async def follow(steps: AsyncIterator[Artifact], progress: Progress) -> None:
    """Move the progress bar with every file that all analysers have seen."""
    bar = progress.add_task("reading", total=None)
    async for step in steps:
        if isinstance(step.payload, ReviewPlan):
            progress.update(bar, total=len(step.payload.files), description="reviewing")
        else:
            progress.advance(bar)


def main(argv: Sequence[str] | None = None) -> Report:
    """Review what the command line names, show the result and return the Report."""
    parser = argparse.ArgumentParser(prog="code_review", description="Review a Python source tree.")
    parser.add_argument("path", metavar="PATH", help="a directory or a file")
    parser.add_argument("--out", metavar="DIR", default="build/code-review", help="where report.html and .json go")
    parser.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help="such as 'tests/*'")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--fail-under", metavar="HEALTH", type=int, default=0, help="exit with 1 below this health")
    options = parser.parse_args(argv)
    if not Path(options.path).exists():
        parser.error(f"there is no {options.path}")
    request = ReviewRequest(path=options.path, out=options.out, exclude=tuple(options.exclude))
    errors = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        report = asyncio.run(review(request, progress))
    if options.json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        console = Console()
        show_report(report, console)
        console.print(f"Open {Path(options.out, 'report.html')}", soft_wrap=True, markup=False)
    if report.summary.health < options.fail_under:
        parser.exit(1, f"health {report.summary.health} is under {options.fail_under}\n")
    return report


if __name__ == "__main__":
    main()
