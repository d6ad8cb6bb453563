"""Measures Flock against raw asyncio and prints the table: `python benchmarks/run.py`, or `make bench`.

Each run has a process of its own. Each measured run stands between two runs of its baseline and is compared with
their mean; medians over the rounds are quoted. A run counts only if its checks hold.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from figures import CASES, DURABLE, FIGURES, FLOCK, IMPORT, Case, Command, Figure, Outcome, Sample
from table import Line, Results, aligned, line, markdown

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
PAGE = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
PATIENCE = 600  # seconds that one run may take


class VoidRunError(Exception):
    """Raised when a run ended badly or its checks did not hold."""


class UnsupportedError(Exception):
    """Raised when a benchmark has no such workload or variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all runs have in common."""

    peer: Path
    smoke: bool
    boards: str = ""  # the folder of large boards

    def command(self, command: Command) -> list[str]:
        """Return the words that start a run."""
        script, *arguments = command
        path = self.peer if script == FLOCK else HERE / script
        if script == DURABLE:
            arguments += ["--folder", self.boards]
        if self.smoke and script != IMPORT:
            arguments.append("--smoke")
        return [sys.executable, str(path), *arguments]


def environment() -> dict[str, str]:
    """Return the variables of a run: Flock is the one beside this file, compiled once as installed packages are."""
    places = filter(None, (str(SOURCE), os.environ.get("PYTHONPATH")))
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def outcome(command: Command, setting: Setting) -> Outcome:
    """Run a command in a process of its own; raises VoidRunError and UnsupportedError."""
    try:
        child = subprocess.run(  # noqa: S603
            setting.command(command),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment(),
        )
    except subprocess.TimeoutExpired:
        raise VoidRunError(f"{' '.join(command)} took more than {PATIENCE} s") from None
    return report(child)


def report(child: subprocess.CompletedProcess[str]) -> Outcome:
    """Return the numbers that a run printed; raises VoidRunError and UnsupportedError."""
    last = child.stdout.strip().rpartition("\n")[2]
    if not last.startswith("{"):
        complaint = child.stderr.strip().rpartition("\n")[2]
        raise VoidRunError(complaint or f"exit status {child.returncode} without a word")
    printed = json.loads(last)
    if printed.get("unsupported"):
        raise UnsupportedError
    if child.returncode or printed["faults"]:
        raise VoidRunError("; ".join(printed["faults"]) or f"exit status {child.returncode}")
    return {name: value for name, value in printed.items() if isinstance(value, int | float)}


def attempt(case: Case, results: Results, setting: Setting) -> str:
    """Take one sample of a case, or record why it has none; return what came of it in a few words."""
    try:
        commands = (case.baseline, case.measured, case.baseline)
        sample = Sample(*(outcome(command, setting) for command in commands))
    except UnsupportedError:
        results.missing[case.name] = "not measured"
    except VoidRunError as error:
        results.missing[case.name] = f"void: {error}"
        results.failed = True
    else:
        results.samples.setdefault(case.name, []).append(sample)
        quantity = next(figure.quantity for figure in FIGURES if case.name in figure.cases)
        return f"{sample.ratio(quantity):.2f} of its baseline"
    return results.missing[case.name]


@contextmanager
def large_boards(cases: Sequence[Case], setting: Setting) -> Generator[Setting]:
    """Make the boards that these cases need, which takes a minute or two; exits when one is not as it should be."""
    commands = [command for case in cases for command in (case.baseline, case.measured) if command[0] == DURABLE]
    with tempfile.TemporaryDirectory(prefix="flock-bench-") as folder:
        complete = replace(setting, boards=folder)
        if commands:
            names = dict.fromkeys(command[2] for command in commands)
            build = complete.command((DURABLE, "build", *names))
            if subprocess.run(build, check=False, stdout=subprocess.DEVNULL, env=environment()).returncode:  # noqa: S603
                sys.exit("there are no large boards to measure")
        yield complete


def measure(cases: Sequence[Case], results: Results, rounds: int, setting: Setting) -> None:
    """Take a sample of every case in each round, so that a slow minute of the machine touches all cases alike."""
    started = time.perf_counter()
    for i in range(rounds):
        for k, case in enumerate(cases):
            if case.name in results.missing:
                continue
            said = attempt(case, results, setting)
            done = i * len(cases) + k + 1
            left = (time.perf_counter() - started) / done * (rounds * len(cases) - done)
            print(f"round {i + 1}/{rounds}  {case.name:<10}  {said}  ({left:.0f} s left)", file=sys.stderr, flush=True)


def machine() -> str:
    """Return what the figures depend on, in one line."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def write_page(lines: Sequence[Line], rounds: int) -> None:
    """Replace what stands between the markers of the page."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = f"{machine()}; medians of {rounds} rounds.\n\n{markdown(lines)}"
    PAGE.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


def write_samples(path: Path, lines: Sequence[Line], results: Results, rounds: int) -> None:
    """Write the table and every sample behind it as JSON."""
    content = {
        "machine": machine(),
        "rounds": rounds,
        "figures": [entry._asdict() for entry in lines],
        "samples": {name: [asdict(sample) for sample in samples] for name, samples in results.samples.items()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def chosen(names: str) -> list[Figure]:
    """Return the figures of the named workloads, all for an empty string; exits when a name is unknown."""
    wanted = [name.strip().upper() for name in names.split(",") if name.strip()]
    known = list(dict.fromkeys(figure.name for figure in FIGURES))
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [figure for figure in FIGURES if not wanted or figure.name in wanted]


def main() -> int:
    """Measure what the command line asks for; return 0 when every run counted, 1 when one did not, 130 after Ctrl-C."""
    arguments = parse()
    figures = chosen(arguments.only)
    needed = {case for figure in figures for case in figure.cases}
    replaced = arguments.peer != HERE / FLOCK
    cases = [case for case in CASES if case.name in needed and not (replaced and case.measured[0] == DURABLE)]
    results = Results()
    interrupted = False
    try:
        with large_boards(cases, Setting(peer=arguments.peer.resolve(), smoke=arguments.smoke)) as setting:
            measure(cases, results, arguments.rounds, setting)
    except KeyboardInterrupt:
        interrupted = True
    lines = [line(figure, results) for figure in figures]
    print(f"{machine()}; medians of {arguments.rounds} rounds{', interrupted' if interrupted else ''}\n")
    print(aligned(lines))
    if arguments.json:
        write_samples(arguments.json, lines, results, arguments.rounds)
    if interrupted:
        return 130
    if arguments.markdown:
        write_page(lines, arguments.rounds)
    return int(results.failed)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure Flock against raw asyncio.")
    parser.add_argument("--rounds", type=positive, default=7, help="samples per case (7)")
    parser.add_argument("--only", default="", metavar="W1,W2", help="these workloads only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table and all samples here")
    parser.add_argument("--markdown", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--smoke", action="store_true", help="see that everything runs; the figures mean nothing")
    parser.add_argument("--peer", type=Path, default=HERE / FLOCK, metavar="FILE", help="measure this instead of Flock")
    arguments = parser.parse_args()
    if arguments.markdown and (arguments.only or arguments.smoke or arguments.peer != HERE / FLOCK):
        parser.error("--markdown writes the whole table, and of Flock alone")
    return arguments


def positive(text: str) -> int:
    """Read a number of 1 or more."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
