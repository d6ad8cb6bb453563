"""`flock run`: what it publishes, how it ends, what it says and with which exit status."""

import json
import re
from pathlib import Path

import pytest

from flock.cli import inputs
from flock.cli.errors import UsageError
from tests.cli.conftest import Command


def test_a_run_that_goes_well_says_so_and_exits_with_0(command: Command) -> None:
    done = command("run", "shop.py", "--publish", '{"type": "Order", "number": 1}')
    assert done.returncode == 0, done.stderr
    heading, *rest = done.stdout.splitlines()[2:]
    assert done.stdout.splitlines()[:2] == ["paying 1", "from a child process"]
    assert heading.startswith("idle after ")
    assert heading.endswith(": 2 succeeded, 0 failed, 0 cancelled")
    assert rest == [
        "waiting (1)",
        "  counter: batch: holds 1 of 10 (1 artifact)",
        "results (1)",
        '  shop:Receipt by printer: {"number":1,"text":"thank you"}',
    ]
    assert done.stderr == ""


def test_json_is_one_report_and_what_agents_and_their_children_print_goes_elsewhere(command: Command) -> None:
    done = command("run", "shop.py", "--json", "--publish", '{"type": "Order", "number": 1}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report.pop("duration") > 0
    (result,) = report.pop("results")
    assert (result["type"], result["payload"]) == ("shop:Receipt", {"number": 1, "text": "thank you"})
    (waiting,) = report.pop("waiting")
    assert (waiting["reason"], waiting["agent"], waiting["run"], len(waiting["artifacts"])) == (
        "batch",
        "counter",
        "shop",
        1,
    )
    assert report == {
        "target": "shop.py", "end": "idle", "exit_status": 0, "idle": True, "published": 1, "succeeded": 2, "failed": 0,
        "cancelled": 0, "failures": [], "notes": [],
    }  # fmt: skip
    assert set(done.stderr.splitlines()) == {"paying 1", "from a child process"}


def test_a_failure_is_named_and_exits_with_1(command: Command) -> None:
    done = command("run", "shop.py", "--publish", '[{"type": "Order", "number": 13}, {"type": "Order", "number": 2}]')
    assert done.returncode == 1
    assert "2 succeeded, 1 failed" in done.stdout
    assert "failures (1)\n  cashier: ValueError: unlucky\n" in done.stdout
    waits = r"  printer: join: holds 1 of 1 Order, 0 of 1 Paid \(1 artifact\), due in .+\n"
    assert re.search(waits, done.stdout)
    assert done.stderr == "ERROR: cashier: ValueError: unlucky\n"


def test_a_summary_stays_short_and_readable_whatever_failed(command: Command) -> None:
    command.environment = {**command.environment, "PYTHONIOENCODING": "ascii"}
    with (command.folder / "shop.py").open("a") as file:
        file.write("\n\n@flock.agent\ndef loud(order: Order) -> None:\n    raise ValueError('größe\\n  [bold]two')\n")
    done = command("run", "shop.py", "--publish", json.dumps([{"type": "Order", "number": 0}] * 23))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines.count(r"  loud: ValueError: gr\xf6\xdfe / [bold]two") == 20
    assert "  ... and 3 more: --json lists all" in lines


def test_failures_stand_in_the_json_report(command: Command) -> None:
    done = command("run", "shop.py", "--json", "--publish", '{"type": "Order", "number": 13}')
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_status"], report["failed"]) == (1, 1, 1)
    (failure,) = report["failures"]
    assert (failure["agent"], failure["error_type"], failure["message"]) == ("cashier", "ValueError", "unlucky")


def test_drain_fires_partial_batches(command: Command) -> None:
    done = command("run", "shop.py", "--drain", "--publish", '{"type": "Order", "number": 0}')
    assert done.returncode == 0
    assert 'shop:Summary by counter: {"count":1}' in done.stdout


def test_a_run_that_is_not_idle_in_time_exits_with_3_and_says_what_runs(command: Command) -> None:
    done = command("run", "slow.py", "--timeout", "0.1", "--publish", '{"type": "Task"}')
    assert done.returncode == 3
    assert "not idle after " in done.stdout
    assert "worker: running (1 artifact)" in done.stdout
    assert "the memory store is left with 1 open" in done.stdout
    assert "cancelled\n" in done.stdout


def test_a_body_that_can_not_be_stopped_does_not_keep_the_command(command: Command) -> None:
    done = command("run", "slow.py", "--timeout", "0", "--json", "--publish", '{"type": "Task", "stubborn": true}')
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_status"] == 3
    assert any("did not stop and were left behind: worker" in note for note in report["notes"])


def test_objects_come_from_files_and_standard_input_and_meet_in_one_run(command: Command) -> None:
    (command.folder / "list.json").write_text('[{"type": "Order", "number": 0},\n {"type": "shop:Order", "number": 0}]')
    (command.folder / "lines.jsonl").write_text(
        '\ufeff{"type": "Order", "number": 0}\n\n{"type": "Order", "number": 0}\n'
    )
    done = command(
        "run", "shop.py", "--json", "--drain", "--publish", "@list.json", "--publish", "@lines.jsonl", "--publish", "-",
        text='{"type": "Order", "payload": {"number": 0}}\n',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["published"] == 5
    assert [result["payload"] for result in report["results"]] == [{"count": 5}]


def test_nothing_to_do_is_said_and_is_no_error(command: Command) -> None:
    done = command("run", "shop.py")
    assert done.returncode == 0
    assert "nothing was published and no schedule fired: --publish gives the flow something to do" in done.stdout


def test_with_schedules_alone_it_runs_until_the_last_has_fired(command: Command) -> None:
    done = command("run", "clockwork.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["tick"] * 3
    assert '  clockwork:Tock by tick: {"number":3}' in done.stdout.splitlines()


def test_an_endless_schedule_ends_with_the_timeout_and_that_is_fine(command: Command) -> None:
    done = command("run", "clockwork.py:endless", "--timeout", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["end"], report["idle"], report["failed"]) == ("idle", True, 0)
    assert report["succeeded"] == len(report["results"]) >= 1


def test_the_store_can_be_chosen(command: Command) -> None:
    order = '{"type": "Order", "number": 0}'
    assert command("run", "shop.py", "--store", "memory://", "--publish", order).returncode == 0
    done = command("run", "shop.py", "--store", "paper://", "--publish", order)
    assert done.returncode == 2
    assert done.stderr.startswith("flock: no store for 'paper://'")


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ('{"type": "Ordr", "number": 1}', "unknown type 'Ordr'; known types: "),
        ('{"number": 1}', "a dict to publish needs a 'type'; known types: "),
        ('{"type": "Order", "number": "many"}', "invalid Order: 1 validation error for Order\nnumber\n"),
        ("@nothing.json", "--publish @nothing.json: No such file or directory"),
        ("", "--publish 1 is empty"),
    ],
)
def test_what_can_not_be_published_exits_with_2_and_nothing_on_standard_output(
    command: Command, published: str, said: str
) -> None:
    good = '{"type": "Order", "number": 1}'
    done = command("run", "shop.py", "--json", "--publish", published, "--publish", good)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"flock: {said}")
    assert "Traceback" not in done.stderr
    if "known" in said:
        assert "shop:Order, shop:Paid" in done.stderr


@pytest.mark.parametrize("words", [("--timeout", "nan"), ("--timeout", "soon")])
def test_bad_options_exit_with_2(command: Command, words: tuple[str, ...]) -> None:
    done = command("run", "shop.py", *words)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": A}', "--publish 1: bad JSON at line 1 column 10: Expecting value"),
        ('{"type":\n "A"\n "b"}', "--publish 1: bad JSON at line 3 column 2: Expecting ',' delimiter (near "),
        ('{"type": "A"}\n\n{"type": B}', "--publish 1: bad JSON at line 3 column 10: Expecting value (near "),
        ('{"type": "A"}\n[3]', "--publish 1, line 2, item 1: 3 is no JSON object"),
        ('[{"type": "A"}, "b"]', "--publish 1, item 2: \"b\" is no JSON object: give an object with a 'type'"),
        ('"' + "x" * 50 + '"', '--publish 1: "' + "x" * 36 + "... is no JSON object"),
        ("1" * 5000, "--publish 1: bad JSON: Exceeds the limit"),
        ("[" * 100_000, "--publish 1: bad JSON: "),
        ("  \n", "--publish 1 is empty: give a JSON object with a 'type', or a list of them"),
    ],
    ids=["comma", "lines", "jsonl", "jsonl-item", "item", "text", "digits", "depth", "blank"],
)
def test_bad_json_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        inputs.read([text])
    assert str(caught.value).startswith(said)


def test_json_lines_may_start_with_a_list_and_a_list_may_span_lines() -> None:
    assert inputs.read(['[{"a": 1}]\n{"a": 2}', '[{"a": 3},\n{"a": 4}]']) == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


def test_standard_input_can_be_read_once_and_files_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can be read only once"):
        inputs.read(["-", "-"])
    (tmp_path / "image").write_bytes(b"{\xff}")
    with pytest.raises(UsageError, match="is not UTF-8 text: byte 2 can't be read"):
        inputs.read([f"@{tmp_path / 'image'}"])
