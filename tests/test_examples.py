"""The examples: each `main()` returns what its docstring promises, and each file runs as a script and as a target."""

import json
import runpy
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import batch
import best_of_n
import failures
import hello
import human_approval
import join
import pizza
import streaming
import survive
import timers
import visibility
from flock.cli.command import app

EXAMPLES = Path(hello.__file__).parent
ENDS = {
    "batch": {"Tour"},
    "best_of_n": {"Slogan"},
    "failures": {"Apology"},
    "hello": {"Greeting"},
    "human_approval": {"ApprovalRequest", "Decision"},
    "join": {"Shipment"},
    "pizza": {"Pizza"},
    "streaming": {"Loud"},
    "survive": {"Album"},
    "timers": {"Alarm"},
    "visibility": {"Note"},
}
NAMES = tuple(ENDS)


@pytest.fixture
def fresh_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the command import what this module has imported."""
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def test_hello_returns_a_greeting() -> None:
    assert hello.main() == hello.Greeting(text="Hello, world!")


def test_pizza_returns_a_valid_pizza_that_came_by_way_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    made = pizza.main()
    assert pizza.Pizza.model_validate(made.model_dump()) == made
    published = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " published " in line]
    assert published == ["external", "chef", "baker"]


def test_join_returns_what_is_complete_and_names_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    assert [(shipment.number, shipment.label) for shipment in join.main()] == [
        (3, "rug from C1, 9.00 paid"),
        (1, "cup from B4, 25.00 paid"),
    ]
    assert "Order(number=2, what='vase'), Packed(number=2, shelf='B5')" in capsys.readouterr().out


def test_batch_returns_two_full_vans_and_the_rest() -> None:
    assert [tour.stops for tour in batch.main()] == [["Bern", "Oslo", "Rome"], ["Doha", "Kyiv", "Lima"], ["Cork"]]


def test_best_of_n_returns_the_highest_score_of_those_who_did_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert best_of_n.main() == best_of_n.Slogan(text="Moonlamp: pure light.")
    assert "candidate 2 is out: KeyError('designer')" in capsys.readouterr().out


def test_timers_returns_an_alarm_for_each_hot_reading() -> None:
    assert [alarm.text for alarm in timers.main()] == [
        "26.0 degrees at reading 4!",
        "27.5 degrees at reading 5!",
    ]


def test_streaming_returns_lines_that_were_read_before_the_next_was_written() -> None:
    assert streaming.main() == ["poet 1", "reader 1", "poet 2", "reader 2", "poet 3", "reader 3"]


def test_human_approval_returns_decisions_that_waited_for_their_answers() -> None:
    assert [decision.text for decision in human_approval.main()] == [
        "paid 2 euros for a pencil, says the rule",
        "paid 900 euros for a crane, says Ada",
        "refused 250000 euros for a castle, says Ada",
    ]


def test_failures_returns_a_receipt_after_retries_and_an_apology() -> None:
    assert failures.main() == failures.Outcome(
        receipts=[failures.Receipt(to="Venice", attempts=3)],
        apologies=[failures.Apology(text="We are sorry: there is no such place (LookupError, attempts: 1)")],
    )


def test_visibility_returns_who_has_seen_what() -> None:
    everybody = ["editor", "intern", "lawyer", "public", "rival"]
    assert visibility.main() == {
        "It rains.": everybody,
        "The intern gets a raise.": ["editor", "intern"],
        "The source is a minister.": ["editor"],
        "Acme buys Globex.": ["lawyer"],
        "The embargo is over.": everybody,
    }


def test_survive_returns_what_a_killed_start_and_the_one_after_it_printed() -> None:
    assert survive.main() == survive.Story(
        first=[f"developing photo {number}, attempt 1" for number in (1, 2, 3)],
        first_status=-signal.SIGKILL,
        second=[
            "developing photo 3, attempt 2",
            "developing photo 4, attempt 1",
            "developing photo 5, attempt 1",
            "an album of [1, 2, 3, 4, 5]",
        ],
        second_status=0,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_as_a_script_and_prints(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    with warnings.catch_warnings(action="error"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.usefixtures("fresh_modules")
@pytest.mark.parametrize("name", NAMES)
def test_the_command_in_an_example_s_docstring_makes_what_the_flow_ends_with(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    module = Path(EXAMPLES, f"{name}.py").read_text(encoding="utf-8")
    shown = shlex.split(module[module.index("flock run") : module.index('\n"""')])
    assert shown[:3] == ["flock", "run", f"examples/{name}.py"]
    ran = CliRunner().invoke(app, ["run", str(EXAMPLES / f"{name}.py"), "--json", *shown[3:]])
    results = json.loads(capfd.readouterr().out)["results"]
    assert ran.exit_code == (1 if name == "failures" else 0), ran.output
    assert {result["type"].removeprefix(f"{name}:") for result in results} == ENDS[name]
