"""Flocks in a real Jupyter kernel: what cells publish, await, define again and interrupt, and how the kernel ends."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
import pytest_asyncio
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from typing_extensions import override

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
LAUNCH = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=40"]
FORMAT: Any = nbformat  # which has no types
pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPES = """
import asyncio, gc, threading, warnings
from pydantic import BaseModel
from flock import BlockingCallWarning, Context, Flock, run_sync

class Ticket(BaseModel):
    text: str

class Reply(BaseModel):
    text: str
"""
AGENTS = """
flock = Flock()

@flock.agent
async def writer(ticket: Ticket) -> Reply:
    return Reply(text=f"re: {ticket.text}")
"""
REPLIES = "[reply.text for reply in flock.sync.store.get_by_type(Reply)]"
WORK = """
cancelled = []

async def work():
    try:
        print("begun", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.append("work")
        raise

@flock.agent
async def slow(reply: Reply) -> None:
    await work()
"""


class Notebook(NotebookClient):
    """A notebook that interrupts its kernel when a cell says "begun"."""

    @override
    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["content"].get("text", "").startswith("begun"):
            manager: Any = self.km
            self.interrupting = asyncio.create_task(manager.interrupt_kernel())
        return super().process_message(msg, cell, cell_index)


class Kernel:
    """A kernel, on which notebooks are run."""

    def __init__(self, manager: AsyncKernelManager, client: Any) -> None:
        self.manager = manager
        self.client = client

    async def run(self, *cells: str) -> list[str]:
        """Run a notebook of these cells; gives what each of them shows."""
        sources = [FORMAT.v4.new_code_cell(cell) for cell in cells]
        return await self.run_notebook(FORMAT.v4.new_notebook(cells=sources))

    async def run_notebook(self, notebook: Any) -> list[str]:
        """Run a notebook; gives what each code cell shows, none of which is on stderr."""
        runner = Notebook(notebook, km=self.manager, allow_errors=True, timeout=30)
        runner.kc = self.client
        await runner.async_execute(cleanup_kc=False)
        outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
        assert [each.text for cell in outputs for each in cell if each.get("name") == "stderr"] == []
        return ["\n".join(map(shown, cell)) for cell in outputs]

    async def restart(self) -> None:
        """Begin anew, with nothing defined."""
        await self.manager.restart_kernel()
        await self.client.wait_for_ready(timeout=30)


def shown(output: Any) -> str:
    """Give an output as text."""
    match output.output_type:
        case "stream":
            return str(output.text).strip()
        case "error":
            return f"{output.ename}: {output.evalue}"
        case _:
            return str(output.data["text/plain"])


@asynccontextmanager
async def started(folder: Path) -> AsyncGenerator[Kernel, None]:
    """A kernel of this interpreter; whatever its process itself says on stderr is in a file of the folder."""
    spec = {"argv": LAUNCH, "display_name": "Flock", "language": "python"}
    (folder / "flock").mkdir()
    (folder / "flock" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    specs = KernelSpecManager(kernel_dirs=[str(folder)])
    manager = AsyncKernelManager(
        kernel_name="flock", kernel_spec_manager=specs, connection_file=str(folder / "connection.json")
    )
    with (folder / "stderr").open("wb") as stderr:
        await manager.start_kernel(stderr=stderr)
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=30)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            if manager.has_kernel:
                await manager.shutdown_kernel(now=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kernel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kernel]:
    """The kernel that these tests share; each of them makes its own Flock there."""
    async with started(tmp_path_factory.mktemp("kernel")) as shared:
        yield shared


async def test_one_cell_publishes_and_the_next_one_waits(kernel: Kernel) -> None:
    *_, published, report, replies = await kernel.run(
        TYPES, AGENTS, 'flock.sync.publish(Ticket(text="a"))', "flock.sync.run_until_idle()", REPLIES
    )
    assert published.startswith("<Artifact __main__:Ticket #1 ")
    assert "idle=True, succeeded=1, failed=0" in report
    assert replies == "['re: a']"


async def test_cells_that_await_and_cells_that_block_use_the_same_flock(kernel: Kernel) -> None:
    *_, first, second, third, replies = await kernel.run(
        TYPES,
        AGENTS,
        'await flock.publish(Ticket(text="a"))',
        "flock.sync.run_until_idle().succeeded",
        'flock.sync.publish(Ticket(text="b")); (await flock.run_until_idle()).succeeded',
        '[await flock.ask(Ticket(text="c"), Reply), flock.sync.ask(Ticket(text="d"), Reply)]',
        REPLIES,
    )
    assert (first, second) == ("1", "1")
    assert third == "[Reply(text='re: c'), Reply(text='re: d')]"
    assert replies == "['re: a', 're: b', 're: c', 're: d']"


async def test_run_sync_and_run_work_in_cells(kernel: Kernel) -> None:
    *_, ran, asked = await kernel.run(
        TYPES,
        AGENTS,
        'flock.run(writer, Ticket(text="a"))[0].payload',
        'async def main():\n    return await flock.ask(Ticket(text="b"), Reply)\nrun_sync(main)',
    )
    assert (ran, asked) == ("Reply(text='re: a')", "Reply(text='re: b')")


async def test_blocking_calls_in_cells_warn_nobody(kernel: Kernel) -> None:
    blocking = 'flock.sync.publish(Ticket(text="a")); flock.run(writer, Ticket(text="b")); run_sync(flock.ready)'
    within = "with warnings.catch_warnings(action='error', category=BlockingCallWarning):"
    *_, silent, strict = await kernel.run(TYPES, AGENTS, blocking, f"{within}\n    {blocking}\n    print('no warning')")
    assert (silent, strict) == ("", "no warning")


async def test_a_stream_goes_on_from_cell_to_cell_in_both_forms(kernel: Kernel) -> None:
    *_, first, second, third, fourth = await kernel.run(
        TYPES,
        AGENTS,
        "blocking, awaited = flock.sync.stream(Reply), flock.stream(Reply)",
        'flock.sync.publish_many([Ticket(text="a"), Ticket(text="b")])',
        "next(blocking).payload.text",
        "(await anext(awaited)).payload.text",
        "next(blocking).payload.text",
        "(await anext(awaited)).payload.text",
    )
    assert (first, second, third, fourth) == ("'re: a'", "'re: a'", "'re: b'", "'re: b'")


async def test_a_cell_that_makes_a_flock_runs_three_times(kernel: Kernel) -> None:
    cell = f'{TYPES}{AGENTS}flock.sync.publish(Ticket(text="a")); flock.sync.run_until_idle()\n{REPLIES}'
    assert await kernel.run(cell, cell, cell) == ["['re: a']"] * 3


async def test_a_cell_that_publishes_runs_three_times_on_the_same_flock(kernel: Kernel) -> None:
    cell = f'flock.sync.publish(Ticket(text="a")); flock.sync.run_until_idle()\n{REPLIES}'
    *_, first, second, third = await kernel.run(TYPES, AGENTS, cell, cell, cell)
    assert (first, second, third) == ("['re: a']", "['re: a', 're: a']", "['re: a', 're: a', 're: a']")


async def test_the_thread_of_a_flock_that_nobody_has_any_more_ends(kernel: Kernel) -> None:
    use = """
flock.sync.publish(Ticket(text="a")); flock.sync.run_until_idle()
threads = [thread for thread in threading.enumerate() if thread.name == "flock home loop of forsaken"]
"""
    make = AGENTS.replace("Flock()", "Flock(name='forsaken')")
    forsake = "del flock, writer; gc.collect(); threads[0].join(10); (len(threads), threads[0].is_alive())"
    assert (await kernel.run(TYPES, make + use, forsake))[-1] == "(1, False)"


async def test_annotations_that_are_texts_are_found_among_the_names_of_the_notebook(kernel: Kernel) -> None:
    future = f"from __future__ import annotations\n{AGENTS}"
    quoted = "@flock.agent\nasync def reader(reply: 'Reply', ctx: 'Context') -> None:\n    read.append(reply.text)"
    publish = "flock.sync.publish(Ticket(text='a')); flock.sync.run_until_idle(); read"
    assert (await kernel.run(TYPES, future, "read = []", quoted, publish))[-1] == "['re: a']"


async def test_an_agent_that_is_defined_again_on_the_same_flock_is_refused_until_the_old_one_is_removed(
    kernel: Kernel,
) -> None:
    again = AGENTS.replace("flock = Flock()", "").replace("re:", "again:")
    *_, refused, _, _, reply = await kernel.run(
        TYPES, AGENTS, again, "flock.remove_agent('writer')", again, "flock.sync.ask(Ticket(text='a'), Reply).text"
    )
    assert refused == "ConfigurationError: there is an agent named 'writer' already"
    assert reply == "'again: a'"


async def test_classes_that_are_defined_again_fire_agents_that_are_declared_again(kernel: Kernel) -> None:
    *_, before, _, after, replies = await kernel.run(
        TYPES,
        AGENTS,
        "flock.sync.ask(Ticket(text='a'), Reply).text",
        TYPES + "flock.remove_agent('writer')" + AGENTS.replace("flock = Flock()", ""),
        "flock.sync.ask(Ticket(text='b'), Reply).text",
        REPLIES,
    )
    assert (before, after) == ("'re: a'", "'re: b'")
    assert replies == "['re: a', 're: b']"


async def test_a_board_in_a_file_asks_for_a_name_of_what_only_the_notebook_knows(
    kernel: Kernel, tmp_path: Path
) -> None:
    named = "from flock import flock_type\n@flock_type('Ticket')\nclass Ticket(BaseModel):\n    text: str\n"
    make = f"flock = Flock(store='sqlite:///{tmp_path}/board.db')"
    _, _, refused, kept, _ = await kernel.run(
        TYPES,
        make,
        "flock.sync.publish(Ticket(text='a'))",
        f"{named}flock.sync.publish(Ticket(text='b')); flock.sync.store.get_by_type(Ticket)",
        "flock.sync.close()",
    )
    assert refused.startswith("PublishError: Ticket can't be kept: Ticket is defined in a notebook or at a prompt")
    assert kept == "[Ticket(text='b')]"


async def test_a_with_block_closes_the_flock_in_its_cell(kernel: Kernel) -> None:
    block = """
with flock.sync as board:
    board.publish(Ticket(text="a"))
    print(board.run_until_idle().succeeded, [reply.text for reply in board.store.get_by_type(Reply)])
flock.portal.has_thread
"""
    *_, done, after = await kernel.run(TYPES, AGENTS, block, 'flock.sync.publish(Ticket(text="b"))')
    assert done == "1 ['re: a']\nFalse"
    assert after == "ClosedError: Flock 'default' is closed"


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("flock.sync.call(work)", "KeyboardInterrupt: "),
        ("flock.run(slow, Reply(text='a'))", "KeyboardInterrupt: "),
        ("await flock.arun(slow, Reply(text='a'))", "CancelledError: "),
    ],
)
async def test_an_interrupt_ends_its_cell_and_the_work_but_not_the_flock(kernel: Kernel, cell: str, error: str) -> None:
    *_, interrupted, report, reply = await kernel.run(
        TYPES,
        AGENTS,
        WORK,
        cell,
        "(cancelled, flock.sync.run_until_idle(timeout=10).idle)",
        "flock.remove_agent('slow'); flock.sync.ask(Ticket(text='b'), Reply).text",
    )
    assert interrupted == f"begun\n{error}"
    assert (report, reply) == ("(['work'], True)", "'re: b'")


async def test_a_notebook_runs_again_after_a_restart(kernel: Kernel) -> None:
    cells = [TYPES, AGENTS, 'flock.sync.publish(Ticket(text="a"))', "await flock.run_until_idle()", REPLIES]
    first = await kernel.run(*cells)
    await kernel.restart()
    gone = await kernel.run(REPLIES)
    second = await kernel.run(*cells)
    assert gone == ["NameError: name 'flock' is not defined"]
    assert first[-1] == second[-1] == "['re: a']"


async def test_the_example_runs_from_top_to_bottom_twice(kernel: Kernel) -> None:
    notebook: Any = FORMAT.read(EXAMPLE, as_version=FORMAT.NO_CONVERT)
    FORMAT.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    for _ in range(2):
        told = dict(zip([cell.id for cell in code], await kernel.run_notebook(notebook), strict=True))
        assert told["replies"] == "[Reply(text='Our billing team looks at it: my invoice is wrong')]"
        assert told["await"] == "2"
        assert told["ask"] == "'Our billing team looks at it: where is my invoice'"
        assert told["run"] == "Topic(name='billing')"
        assert [line.split()[1] for line in told["stream"].splitlines()] == ["sorter", "writer"] * 2
        assert told["stream-await"].splitlines()[-1] == "Our other team looks at it: it rains in"
        assert [text for text in told.values() if "Error" in text] == []


async def test_a_kernel_ends_at_once_whatever_its_flocks_do_and_lets_their_work_clean_up(tmp_path: Path) -> None:
    idle = AGENTS + 'flock.sync.ask(Ticket(text="a"), Reply)'
    busy = f"""
{AGENTS}
busy = flock

@flock.agent
async def patient(ticket: Ticket) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        with open({str(tmp_path / "clean")!r}, "x"):
            pass

flock.sync.publish(Ticket(text="b"))
"""
    thread = """
at_work = threading.Event()

@flock.agent
def in_thread(ticket: Ticket) -> None:
    at_work.set()
    threading.Event().wait(60)

flock.sync.publish(Ticket(text="c"))
at_work.wait(10)
"""
    async with started(tmp_path) as kernel:
        told = await kernel.run(TYPES, idle, busy, AGENTS + thread)
        assert told[-1] == "True"
        kernel.manager.shutdown_wait_time = 50.0  # nobody kills it before
        async with asyncio.timeout(10):
            await kernel.manager.shutdown_kernel()
    assert (tmp_path / "clean").exists()
    assert (tmp_path / "stderr").read_text(encoding="utf-8") == ""


STUDY = """
import tempfile
from flock.studies import Study

async def guess(brief, rng):
    await asyncio.sleep(0)
    return {"answer": rng.random()}

study = Study.build(
    "notes", agents={"guess": guess}, problems=["one", "two"], replicates=3, output_dir=tempfile.mkdtemp()
)
"""


async def test_s8_a_study_shows_a_bar_below_its_cell_and_runs_in_every_way(kernel: Kernel) -> None:
    *_, bar, awaited, serial, same, table = await kernel.run(
        TYPES,
        STUDY,
        "side_by_side = study.run(parallel=2)",
        "awaited = await study.arun(resume=False, progress=False)",
        "serial = study.run(resume=False, progress=False)",
        "[r.outputs for r in side_by_side] == [r.outputs for r in awaited] == [r.outputs for r in serial]",
        "serial._repr_html_()[:1]",
    )
    assert bar.startswith("notes: 6/6 runs, 6 success, 0 failed, 0 skipped, ")
    assert (awaited, serial, same, table) == ("", "", "True", "'<'")
