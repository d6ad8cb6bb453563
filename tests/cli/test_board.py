"""`flock board`: what it shows of a board that is kept, what it changes there, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flock import Artifact, Flock, PublishError, run_sync
from flock.cli import kept
from flock.cli.command import app
from tests.cli.conftest import SHOP, Command

URL = "sqlite:///board.db"
ORDERS = [{"type": "Order", "number": 1}, {"type": "Order", "number": 13}, {"type": "Order", "number": 2}]


@dataclass
class Answer:
    returncode: int
    stdout: str
    stderr: str


class Board:
    """Runs `flock board` in a folder: in this process, since each answer is asked for a hundred times."""

    def __init__(self, command: Command, capture: pytest.CaptureFixture[str]) -> None:
        self.command = command
        self.folder = command.folder
        self._capture = capture

    def __call__(self, *words: str, url: str = URL) -> Answer:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as end:
            app(["board", url, *words], prog_name="flock")
        written = self._capture.readouterr()
        return Answer(int(end.value.code or 0), written.out, written.err)

    def lines(self, *words: str) -> list[str]:
        """Give what goes well as lines."""
        done = self(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.rstrip() for line in done.stdout.splitlines()]

    def json(self, *words: str) -> Any:
        """Give the one JSON document."""
        done = self(*words, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1
        return json.loads(done.stdout)

    def content(self) -> bytes:
        """Give the board's file as it is."""
        return (self.folder / "board.db").read_bytes()


@pytest.fixture(scope="module")
def shop_board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a board on which one order went well, one failed, and one went well after these."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    Command(folder)("run", "shop.py", "--store", URL, "--publish", json.dumps(ORDERS))
    return folder / "board.db"


@pytest.fixture
def empty(command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.chdir(command.folder)
    return Board(command, capsys)


@pytest.fixture
def board(empty: Board, shop_board: Path) -> Board:
    """Give a copy of that board, and no program that knows its types."""
    shutil.copy(shop_board, empty.folder)
    (empty.folder / "shop.py").rename(empty.folder / "elsewhere.py")
    return empty


class Note(BaseModel):
    text: str


@pytest.fixture
def large(empty: Board) -> Board:
    """Give a board with a large note, on which a predicate raised."""

    def raises(note: Note) -> bool:
        raise KeyError(note.text[:1])

    async def publish() -> None:
        async with Flock(store=URL) as flock:
            flock.agent("reader").consumes(Note, where=raises).calls(lambda _: None)
            await flock.publish(Note(text="x" * 200_000))
            await flock.run_until_idle()

    run_sync(publish)
    return empty


def position(board: Board, name: str) -> str:
    """Give the position of the first order's artifact of a type."""
    found = board.json("list", "--type", name)["artifacts"]
    return next(str(each["sequence"]) for each in found if each["payload"]["number"] == 1)


# ---- reading


def test_list_shows_artifacts_in_board_order_without_their_program(board: Board) -> None:
    head, *rows = board.lines("list", "--type", "Order", "--type", "Receipt")
    assert head.split() == ["#", "type", "by", "run", "made", "(UTC)", "payload"]
    shown = [re.sub(r" {2,}", "  ", row).split("  ") for row in rows]
    assert [(row[0], row[1], row[2], row[3], row[5]) for row in shown[:3]] == [
        ("1", "shop:Order", "external", "shop", '{"number": 1}'),
        ("2", "shop:Order", "external", "shop", '{"number": 13}'),
        ("3", "shop:Order", "external", "shop", '{"number": 2}'),
    ]
    assert {row[1] for row in shown[3:]} == {"shop:Receipt"}


def test_list_takes_filters_and_says_where_it_goes_on(board: Board) -> None:
    found = board.json("list", "--type", "shop:Order", "--run", "shop", "--agent", "external", "--limit", "2")
    assert [each["payload"] for each in found["artifacts"]] == [{"number": 1}, {"number": 13}]
    assert found["more_since"] == 2
    rest = board.json("list", "--type", "Order", "--since", "2")
    assert [each["payload"] for each in rest["artifacts"]] == [{"number": 2}]
    assert rest["more_since"] is None
    assert board.json("list", "--run", "other")["artifacts"] == []
    assert board.json("list", "--tag", "new")["artifacts"] == []
    done = board("list", "--limit", "1")
    assert (done.returncode, done.stderr) == (0, "more: --since 1, or a higher --limit\n")


def test_show_prints_one_artifact_whole_by_id_or_position(board: Board) -> None:
    lines = board.lines("show", "1")
    id = lines[0].removeprefix("id: ")
    assert board.lines("show", id) == lines
    assert "type: shop:Order" in lines
    assert lines[lines.index("payload:") + 1 :][:3] == ["{", '  "number": 1', "}"]
    ends = lines[lines.index("what became of it:") + 1 :]
    assert any(re.fullmatch(r"  cashier: input of activation [\w-]+, done", line) for line in ends)
    assert any(line.startswith("  counter/") and "waiting" in line for line in ends)

    found = board.json("show", id)
    assert (found["artifact"]["id"], found["artifact"]["payload"]) == (id, {"number": 1})
    assert {each["agent"]: each["state"] for each in found["consumptions"]} == {"cashier": "done", "printer": "done"}
    assert {each["agent"]: each["state"] for each in found["fates"]}["counter"] == "waiting"


def test_lineage_draws_up_and_down(board: Board) -> None:
    paid = position(board, "Paid")
    lines = board.lines("lineage", paid)
    assert lines[0] == f'#{paid} shop:Paid by cashier: {{"number": 1}}'
    assert lines[1:4] == ["made from", '└── #1 shop:Order by external: {"number": 1}', "led to"]
    assert re.fullmatch(r'└── #\d+ shop:Receipt by printer: {"number": 1, "text": "thank you"}', lines[4])
    found = board.json("lineage", paid)
    assert found["artifact"]["type"] == "shop:Paid"
    assert [each["sequence"] for each in found["ancestors"]] == [1]
    assert [each["type"] for each in found["descendants"]] == ["shop:Receipt"]


def test_lineage_follows_what_is_met_twice_once(board: Board) -> None:
    lines = board.lines("lineage", "1")
    receipt = position(board, "Receipt")
    assert sum(f"#{receipt} shop:Receipt" in line for line in lines) == 1
    assert sum(line.endswith(f"see #{receipt}") for line in lines) == 1


def test_why_tells_the_chain_of_activations(board: Board) -> None:
    receipt = position(board, "Receipt")
    lines = board.lines("why", receipt)
    assert lines[0].startswith(f"#{receipt} shop:Receipt by printer")
    assert re.fullmatch(r"activation [\w-]+ of printer/\w+: done", lines[1])
    assert any(re.fullmatch(r" *activation [\w-]+ of cashier/\w+: done", line) for line in lines)
    last, middle, first = board.json("why", receipt)["steps"]
    assert (last["made_by"]["agent"], last["made_by"]["attempt"], last["made_by"]["state"]) == ("printer", 1, "done")
    assert last["inputs"] == [first["artifact"]["id"], middle["artifact"]["id"]]
    assert (middle["made_by"]["agent"], middle["inputs"]) == ("cashier", [first["artifact"]["id"]])
    assert (first["made_by"], first["inputs"]) == (None, [])


def test_runs_say_where_they_stand(board: Board) -> None:
    head, row = board.lines("runs")
    assert head.split() == ["state", "artifacts", "open", "waiting", "succeeded", "failed", "cancelled", "run"]
    assert row.split()[0] == "waiting"
    assert row.split()[-1] == "shop"
    (run,) = board.json("runs")["runs"]
    assert (run["run"], run["state"], run["succeeded"], run["failed"]) == ("shop", "waiting", 4, 1)


def test_a_run_with_a_failure_of_matching_has_failed(large: Board) -> None:
    (run,) = large.json("runs")["runs"]
    assert (run["run"], run["state"], run["failed"]) == ("default", "failed", 0)


def test_failures_name_activation_agent_and_error(board: Board) -> None:
    head, row = board.lines("failures")
    assert head.split() == ["activation", "agent", "run", "attempts", "error"]
    assert row.endswith("cashier  shop  1         ValueError: unlucky")
    (failure,) = board.json("failures")["failures"]
    assert (failure["agent"], failure["run"], failure["error"]) == ("cashier", "shop", "ValueError: unlucky")
    assert failure["activation"] == row.split()[0]
    assert board.json("failures", "--run", "other") == {"failures": []}


def test_a_run_or_an_agent_that_the_board_does_not_know_is_told_beside_the_empty_table(board: Board) -> None:
    done = board("list", "--run", "nobody", "--agent", "noone")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert done.stderr == (
        "there is no run 'nobody' on this board: `runs` lists those that are there\n"
        "nothing on this board was made by 'noone'\n"
    )
    done = board("failures", "--run", "nobody")
    assert (done.returncode, done.stderr[:28]) == (0, "there is no run 'nobody' on ")
    done = board("list", "--run", "shop", "--agent", "cashier", "--type", "Order")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["export", "list", "list --json", "info"])
def test_a_reader_that_has_enough_ends_the_command_quietly(large: Board, words: str) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [*large.command.words, "board", URL, *words.split()], cwd=large.folder, env=large.command.environment,
            stdout=ours, stderr=subprocess.PIPE, encoding="utf-8", check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(ours)
    assert (done.returncode, done.stderr) == (0, "")


def test_export_writes_lines_that_artifacts_are_read_from(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "PAGE", 2)
    exported = board("export", "--type", "Order")
    assert exported.returncode == 0
    lines = exported.stdout.splitlines()
    assert [json.loads(line)["payload"]["number"] for line in lines] == [1, 13, 2]
    with pytest.raises(PublishError, match="not loaded"):
        Artifact.from_json(lines[0])

    done = board("export", "--output", "all.jsonl")
    assert done.returncode == 0
    whole = (board.folder / "all.jsonl").read_text(encoding="utf-8").splitlines()
    assert done.stderr == f"{len(whole)} artifacts in all.jsonl\n"
    assert [json.loads(line)["sequence"] for line in whole] == list(range(1, len(whole) + 1))
    done = board("export", "--output", "nowhere/all.jsonl")
    assert (done.returncode, done.stderr) == (
        2, "flock: nowhere/all.jsonl can't be written: No such file or directory\n"
    )  # fmt: skip


def test_info_counts_and_measures(board: Board) -> None:
    info = board.json("info")
    assert (info["artifacts"], info["failed"], info["runs"], info["workers"]) == (8, 1, 1, 0)
    assert info["size"] > 0
    lines = dict(line.split(maxsplit=1) for line in board.lines("info"))
    assert lines["artifacts"] == "8"
    assert lines["size"].endswith(("KiB", "MiB"))


def test_looking_changes_nothing_in_the_file(board: Board) -> None:
    before, files = board.content(), sorted(board.folder.iterdir())
    for words in ("list", "show 1", "lineage 1", "why 1", "runs", "failures", "export", "info"):
        assert board(*words.split()).returncode == 0
    assert board.content() == before
    assert sorted(board.folder.iterdir()) == files


def test_looking_leaves_a_running_flock_its_work(board: Board) -> None:
    process = board.command.start("run", "slow.py", "--store", URL, "--publish", '{"type": "Task"}')
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    (run,) = [each for each in board.json("runs")["runs"] if each["run"] == "default"]
    assert (run["state"], run["running"]) == ("active", 1)
    assert board.json("info")["workers"] == 1
    for words in (["list"], ["failures"]):
        assert board(*words).returncode == 0
    (run,) = [each for each in board.json("runs")["runs"] if each["run"] == "default"]
    assert run["running"] == 1
    assert process.poll() is None


# ---- changing


def test_retry_makes_a_failed_activation_ready_and_a_run_takes_it_up(board: Board) -> None:
    (failure,) = board.json("failures")["failures"]
    assert board.lines("retry", failure["activation"]) == [f"ready again: {failure['activation']}"]
    assert board.json("failures") == {"failures": []}
    (run,) = board.json("runs")["runs"]
    assert (run["state"], run["ready"], run["failed"]) == ("active", 1, 0)

    text = (board.folder / "elsewhere.py").read_text().replace("== 13", "== 14")
    (board.folder / "shop.py").write_text(text)
    done = board.command("run", "shop.py", "--store", URL, "--json")
    report = json.loads(done.stdout)
    assert (report["succeeded"], report["failed"], done.returncode) == (2, 0, 0)
    paid = board.json("list", "--type", "Paid")["artifacts"]
    assert [each["payload"]["number"] for each in paid][-1] == 13
    assert paid[-1]["activation_id"] == failure["activation"]


def test_retry_all_takes_every_failed_one(board: Board) -> None:
    (failure,) = board.json("failures")["failures"]
    assert board.json("retry", "--all") == {"retried": [failure["activation"]]}
    assert board.lines("retry", "--all") == ["nothing has failed"]


def test_retry_of_what_has_not_failed_changes_nothing(board: Board) -> None:
    (failure,) = board.json("failures")["failures"]
    done = board("retry", failure["activation"], "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "flock: no failed activation is named nonsense: `failures` lists those that are\n"
    assert board.json("failures")["failures"] == [failure]


def test_prune_removes_what_is_old_and_done_and_keeps_what_waits(board: Board) -> None:
    done = board("prune", "--before", "0s", "--yes", "--vacuum")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"removed: \d+ artifacts, \d+ activations, \d+ runs\n", done.stdout)
    left = board.json("list")["artifacts"]
    assert {1, 2, 3} <= {each["sequence"] for each in left}  # they wait in a batch
    assert board.json("prune", "--before", "30d", "--yes") == {"artifacts": 0, "activations": 0, "runs": 0}


def test_prune_gives_space_back_when_asked(large: Board) -> None:
    assert large("prune", "--type", "Note", "--yes").returncode == 0
    assert large.json("info")["free"] > 100_000
    assert large("prune", "--type", "Note", "--yes", "--vacuum").returncode == 0
    assert large.json("info")["free"] == 0


def test_what_was_pruned_is_told_by_its_position_and_shown_by_its_id(large: Board) -> None:
    (note,) = large.json("list", "--type", "Note")["artifacts"]
    position = str(note["sequence"])
    assert large("prune", "--type", "Note", "--yes").returncode == 0
    done = large("show", position)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"flock: the artifact at {position} was pruned: what is left of it is shown by its id\n"
    assert f"id: {note['id']}" in large.lines("show", note["id"])
    assert large("show", "99").stderr.startswith("flock: there is no artifact '99' on this board")


def test_a_vacuum_alone_removes_nothing_and_asks_nothing(large: Board) -> None:
    assert large("prune", "--type", "Note", "--yes").returncode == 0
    before = large.json("list")
    assert large.lines("prune", "--vacuum") == ["removed: 0 artifacts, 0 activations, 0 runs"]
    assert (large.json("info")["free"], large.json("list")) == (0, before)


def test_prune_asks_on_a_terminal_and_does_nothing_without_one(board: Board) -> None:
    done = board("prune", "--before", "0s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "flock: prune removes for good, and there is no terminal to ask on: add --yes\n"
    before = board.json("list")

    asked = on_terminal(board, "n\n", "prune", "--before", "2020-01-31", "--keep-runs", "3", "--type", "Order")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert asked.stderr == (
        "Remove for good what is of type shop:Order, older than 2020-01-31 00:00:00 UTC, in finished runs but the "
        "newest 3? [y/N] nothing was removed\n"
    )
    assert board.json("list") == before
    asked = on_terminal(board, "y\n", "prune", "--keep-runs", "0")
    assert asked.returncode == 0
    assert asked.stdout.startswith("removed: ")


def on_terminal(board: Board, text: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Answer on a terminal."""
    ours, theirs = os.openpty()
    os.write(ours, text.encode())
    try:
        return subprocess.run(  # noqa: S603 - our own interpreter
            [*board.command.words, "board", URL, *words], cwd=board.folder, env=board.command.environment, stdin=theirs,
            capture_output=True, encoding="utf-8", check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)


# ---- refusing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing"], "there is no artifact 'nothing' on this board: `list` shows those that are there"),
        (["lineage", "99"], "there is no artifact '99' on this board"),
        (["why", "99"], "there is no artifact '99' on this board"),
        (["list", "--type", "Ordr"], "there is no 'Ordr' on this board; its types: flock.model.evaluation:Failure, "),
        (["retry"], "retry takes ids of failed activations, or --all"),
        (["retry", "--all", "x"], "retry takes ids of failed activations, or --all"),
        (["prune", "--yes"], "prune needs to know what may go: give --before, --keep-runs or --type"),
        (["prune", "--before", "soon"], "'soon' is no age (90m, 12h, 30d, 2w) and no ISO time (2026-01-31)"),
        ([], "say what to do with the board, after its URL: list, show, lineage, why, runs, failures, retry, export, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_done_is_said_and_exits_with_2(board: Board, words: list[str], said: str) -> None:
    done = board(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"flock: {said}")
    assert "Traceback" not in done.stderr


def test_a_type_of_two_modules_has_to_be_named_whole(board: Board) -> None:
    text = (board.folder / "elsewhere.py").read_text()
    (board.folder / "desk.py").write_text(text)
    board.command("run", "desk.py", "--store", URL, "--publish", '{"type": "Order", "number": 0}')
    done = board("list", "--type", "Order")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "flock: type 'Order' is ambiguous: use one of desk:Order, shop:Order\n"
    assert len(board.json("list", "--type", "desk:Order")["artifacts"]) == 1


@pytest.mark.parametrize("words", ["list", "info", "export", "retry --all", "prune --before 1d -y"])
def test_a_file_that_is_not_there_is_said_and_not_made(empty: Board, words: str) -> None:
    files = sorted(empty.folder.iterdir())
    done = empty(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: ")
    assert "board.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(empty.folder.iterdir()) == files


def test_a_file_that_is_no_board_is_said_and_left_alone(empty: Board) -> None:
    (empty.folder / "board.db").write_text("a shopping list")
    for words in (["list"], ["retry", "--all"]):
        done = empty(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("flock: ")
        assert "Traceback" not in done.stderr
    assert empty.content() == b"a shopping list"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://", "memory:// keeps nothing to look at: name a store that does, as in sqlite:///board.db"),
        ("paper:///board", "no store for 'paper:///board': "),
        ("board.db", "no store for 'board.db': "),
    ],
)
def test_a_url_of_no_board_is_said(empty: Board, url: str, said: str) -> None:
    done = empty("list", url=url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"flock: {said}")


def test_the_real_command_looks_and_complains(board: Board) -> None:
    done = board.command("board", URL, "list", "--type", "Order")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("shop:Order") == 3
    done = board.command("board", "sqlite:///nothing.db", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: ")


def test_help_is_given_before_and_after_the_url(command: Command) -> None:
    shown = command("board", "--help")
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("lineage", "failures", "prune"))
    assert command("board", URL, "--help").stdout == shown.stdout
    one = command("board", URL, "list", "--help")
    assert one.returncode == 0
    assert "--limit" in one.stdout
    assert command("board", "list").returncode == 2
