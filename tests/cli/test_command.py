"""`flock check`, `flock graph`, the version, help, and what is said without the extra."""

import json
import subprocess
import sys

from tests.cli.conftest import Command

JOIN = """
from pydantic import BaseModel
from flock import Flock, JoinSpec

print("hello from the target")


class Part(BaseModel):
    key: int


def key_of(part: Part) -> int:
    return part.key


flock = Flock("test")
flock.agent("join").consumes(Part, Part, Part, join=JoinSpec(by=key_of, within=1)).publishes(Part)
"""


def test_check_lists_findings_and_exits_with_0_when_nothing_is_wrong(command: Command) -> None:
    done = command("check", "shop.py")
    assert done.returncode == 0
    assert done.stdout.startswith("info: Order comes from outside only: cashier, printer and counter take it")
    assert done.stdout.endswith("0 errors, 0 warnings, 4 remarks\n")


def test_check_exits_with_1_when_something_can_not_work(command: Command) -> None:
    (command.folder / "join.py").write_text(JOIN)
    done = command("check", "join.py")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith("error: join joins 3 artifacts, but within=1 gives the first one up")


def test_check_prints_json_and_nothing_else(command: Command) -> None:
    (command.folder / "join.py").write_text(JOIN)
    done = command("check", "join.py", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["target"] == "join.py"
    assert report["findings"][0]["kind"] == "impossible-join"
    assert done.stderr == "hello from the target\n"


def test_graph_prints_the_drawing_and_nothing_else(command: Command) -> None:
    (command.folder / "join.py").write_text(JOIN)
    mermaid = command("graph", "join.py")
    assert mermaid.returncode == 0
    assert mermaid.stdout == command("graph", "join.py", "--format", "mermaid").stdout
    assert mermaid.stdout.splitlines()[0] == "flowchart LR"
    assert command("graph", "join.py", "--format", "dot").stdout.startswith("digraph flock {\n")
    drawn = json.loads(command("graph", "join.py", "--format", "json").stdout)
    assert [node["id"] for node in drawn["nodes"]] == ["type:join:Part", "agent:join"]
    assert command("graph", "join.py", "--format", "png").returncode == 2


def test_the_command_tells_its_version_and_its_use(command: Command) -> None:
    assert command("--version").stdout.startswith("flock ")
    shown = command("--help").stdout
    assert all(word in shown for word in ("run", "check", "graph"))
    statuses = " ".join(command("run", "--help").stdout.split())
    assert "0 when the run is idle and nothing failed, 1 when something failed, 2 when" in statuses
    assert command().returncode == 2


def test_without_the_extra_the_command_says_what_to_install(command: Command) -> None:
    text = "import sys; sys.modules['{}'] = None; from flock.__main__ import main; main()"
    for name in ("typer", "rich"):
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
            [sys.executable, "-c", text.format(name)],
            env=command.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == 'the flock command needs the "cli" extra: pip install "flock-board[cli]"\n'


def test_another_missing_module_is_not_taken_for_the_extra(command: Command) -> None:
    text = "import sys; sys.modules['flock.cli.session'] = None; import flock.__main__"
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", text], env=command.environment, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: import of flock.cli.session halted" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(command: Command) -> None:
    process = command.start("check", "shop.py")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) in {0, 1}
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
