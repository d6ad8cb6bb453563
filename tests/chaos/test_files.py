"""Files that are full, not writable, damaged or somebody else's: a clear error, and the file is as it was."""

import asyncio
import itertools
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import burst
import pytest
from lives import Journal
from sweep import damage, result, start

from flock import Flock, StoreError
from flock.core.clock import SystemClock
from flock.core.roster import Catalog
from flock.stores.sqlite.store import SQLiteStore
from flock.stores.url import open_store

PAGE = 4096


async def fill(board: Path) -> None:
    """Put a few hundred artifacts on a board."""
    assert await burst.play(f"sqlite:///{board}?synchronous=normal", Journal(None)) == burst.COUNT


async def complaint(board: Path) -> str:
    """Open what should not open, and give what is said."""
    flock = Flock(store=f"sqlite:///{board}")
    burst.build(flock)
    with pytest.raises(StoreError) as caught:
        async with flock:
            await flock.store.list()
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Give what is in the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# ---- no room


class Quota:
    """Limits the pages of every file that SQLite opens from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._connections: list[sqlite3.Connection] = []
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect

        def connect_limited(*args: object, **options: object) -> sqlite3.Connection:
            connection = connect(*args, **options)
            self._connections.append(connection)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_limited)

    def limit(self, pages: int) -> None:
        for connection in self._connections:
            connection.execute(f"PRAGMA max_page_count = {pages}")


async def test_a_full_disk_refuses_what_does_not_fit_keeps_the_rest_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota, board = Quota(monkeypatch), tmp_path / "board.db"
    flock = Flock(store=f"sqlite:///{board}")
    burst.build(flock)
    published: list[int] = []
    async with flock:
        await flock.ready()
        quota.limit(board.stat().st_size // PAGE + 64)

        async def publish_for_ever() -> None:
            for number in itertools.count():
                await flock.publish(burst.Order(number=number), id=f"order-{number}")
                published.append(number)

        with pytest.raises(StoreError, match="full"):
            await publish_for_ever()
        assert published
        assert [each.number for each in await flock.store.get_by_type(burst.Order)] == published

        quota.limit(1_000_000)
        await flock.publish(burst.Order(number=len(published)), id=f"order-{len(published)}")
        report = await flock.run_until_idle(timeout=30)
        assert report.idle
    await check_all_answered(board, len(published) + 1)


async def check_all_answered(board: Path, count: int) -> None:
    """Open a board again: each order has one receipt, or the failure of a settlement that the disk refused for long."""
    flock = Flock(store=f"sqlite:///{board}")
    burst.build(flock)
    async with flock:
        await flock.run_until_idle(timeout=30)
        orders = await flock.store.get_by_type(burst.Order)
        receipts = await flock.store.get_by_type(burst.Receipt)
    assert [each.number for each in orders] == list(range(count))
    assert sorted(each.order for each in receipts) == list(range(count))
    assert not damage(board)


def test_a_process_that_may_write_no_larger_files_is_told_so_and_a_later_one_goes_on(tmp_path: Path) -> None:
    board = tmp_path / "board.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, before[1]))
    try:
        limited = start("burst", f"sqlite:///{board}", "--journal", str(tmp_path / "journal"))
        _, said = limited.communicate(timeout=60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert limited.returncode == 1
    assert "StoreError" in said
    known = set(Journal(tmp_path / "journal").read())
    with closing(sqlite3.connect(board)) as connection:
        on_board = {str(id) for (id,) in connection.execute("SELECT id FROM artifact")}
    assert known <= on_board
    assert result(start("burst", f"sqlite:///{board}")).answer == burst.COUNT
    assert not damage(board)


# ---- no right


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that others may enter: pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="flock-files-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        ((0o444, 0o555), "may not be written by this user: change the permissions of the file"),
        ((0o444, 0o777), "may not be written by this user: change the permissions of the file"),
        ((0o666, 0o555), "needs a folder in which this user may write, as files come beside it"),
        ((0o666, 0o444), "can't be reached by this user: change the permissions of its folder"),
    ],
)
def test_a_file_or_a_folder_that_may_not_be_written_is_refused_by_name_and_left_alone(
    rights: tuple[int, int], told: str, public_folder: Path
) -> None:
    board = public_folder / "board.db"
    asyncio.run(fill(board))
    before = board.read_bytes()
    board.chmod(rights[0])
    public_folder.chmod(rights[1])
    said = result(start("powerless", f"sqlite:///{board}")).answer
    assert str(said).startswith(f"{board} {told}")
    assert str(said).count(str(board)) == 1
    public_folder.chmod(0o755)
    assert contents(public_folder)[board.name] == before


def test_no_board_is_made_in_a_folder_that_may_not_be_written(public_folder: Path) -> None:
    said = result(start("powerless", f"sqlite:///{public_folder}/board.db")).answer
    assert str(said).startswith(f"{public_folder}/board.db needs a folder in which this user may write")


@pytest.mark.parametrize("rights", [(0o444, 0o555), (0o444, 0o777), (0o666, 0o555)])
def test_a_board_that_may_not_be_written_can_be_looked_at_which_leaves_nothing_beside_it(
    rights: tuple[int, int], public_folder: Path
) -> None:
    board = public_folder / "board.db"
    asyncio.run(fill(board))
    before = contents(public_folder)
    board.chmod(rights[0])
    public_folder.chmod(rights[1])
    assert result(start("looking", f"sqlite:///{board}")).answer == len(artifacts(board))
    assert contents(public_folder) == before


def artifacts(board: Path) -> list[str]:
    """Give the ids on a board."""
    with closing(sqlite3.connect(f"file:{board}?immutable=1", uri=True)) as connection:
        return [id for (id,) in connection.execute("SELECT id FROM artifact WHERE payload IS NOT NULL")]


def test_looking_says_what_may_not_be_read_and_what_was_not_closed(public_folder: Path) -> None:
    board = public_folder / "board.db"
    asyncio.run(fill(board))
    board.chmod(0o200)
    said = result(start("looking", f"sqlite:///{board}")).answer
    assert said == f"{board} may not be read by this user: change the permissions of the file"
    board.chmod(0o444)
    (public_folder / "board.db-wal").write_bytes(b"what a process that was killed has left")
    public_folder.chmod(0o555)
    said = result(start("looking", f"sqlite:///{board}")).answer
    assert str(said).startswith(f"{board} was not closed, and can't be read by a user who may not write in its folder")


# ---- no board


def text(board: Path) -> None:
    board.write_text("Dear diary, this is not a database.\n" * 500)


def garbage_at_the_start(board: Path) -> None:
    with board.open("r+b") as file:
        file.write(os.urandom(100))


def cut_short(board: Path) -> None:
    os.truncate(board, PAGE + 100)


def another_application(board: Path) -> None:
    board.unlink()
    with closing(sqlite3.connect(board)) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.execute("INSERT INTO customer VALUES ('Ada')")
        connection.commit()


def another_application_by_its_mark(board: Path) -> None:
    board.unlink()
    with closing(sqlite3.connect(board)) as connection:
        connection.execute("PRAGMA application_id = 4711")


def newer_program(board: Path) -> None:
    with closing(sqlite3.connect(board)) as connection:
        connection.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (text, "no board|not a database"),
        (garbage_at_the_start, "no board|damaged"),
        (cut_short, "damaged|malformed"),
        (another_application, "another application"),
        (another_application_by_its_mark, "another application"),
        (newer_program, "newer"),
    ],
)
async def test_what_is_no_board_of_ours_is_refused_with_the_reason_and_left_untouched(
    spoil: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    board = tmp_path / "board.db"
    await fill(board)
    spoil(board)
    before = contents(tmp_path)
    said = await complaint(board)
    assert str(board) in said
    assert any(each in said for each in told.split("|")), said
    assert contents(tmp_path) == before


async def test_a_folder_is_no_board_and_one_that_is_not_there_has_to_be_made(tmp_path: Path) -> None:
    assert await complaint(tmp_path) == f"{tmp_path} is a folder: name a file in it, as in {tmp_path}/board.db"
    said = await complaint(tmp_path / "new" / "board.db")
    assert said == f"there is no folder {tmp_path}/new for board.db: make it first"
    assert contents(tmp_path) == {}


async def test_an_empty_file_is_no_board_to_look_at_but_becomes_one(tmp_path: Path) -> None:
    board = tmp_path / "board.db"
    board.touch()
    with pytest.raises(StoreError, match=r"board\.db is empty: it is a board as soon as a Flock"):
        await SQLiteStore(board).look(SystemClock(), Catalog())
    assert contents(tmp_path) == {"board.db": b""}
    await fill(board)
    await SQLiteStore(board).look(SystemClock(), Catalog())


async def test_what_is_damaged_comes_with_what_to_do(tmp_path: Path) -> None:
    board = tmp_path / "board.db"
    await fill(board)
    cut_short(board)
    said = await complaint(board)
    assert said.endswith(f": save what `flock board sqlite:///{board} export` can read, or put a copy back")


async def test_garbage_in_the_middle_of_a_file_is_an_error_that_says_so_and_nothing_read_is_wrong(
    tmp_path: Path,
) -> None:
    full, told = tmp_path / "full.db", list[str]()
    await fill(full)
    pages = full.stat().st_size // PAGE
    for page in range(3, pages - 2, max(1, pages // 8)):
        board = tmp_path / f"board-{page}.db"
        shutil.copy(full, board)
        with board.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(os.urandom(PAGE * 2))
        told += await complaints_of_reading(board)
    assert told  # not of each: garbage may be where nobody looks
    assert all("malformed" in each or "damaged" in each for each in told), told


async def complaints_of_reading(board: Path) -> list[str]:
    """Open a board and read all of it until there is an error."""
    store = open_store(f"sqlite:///{board}")
    flock = Flock(store=store)
    burst.build(flock)
    told = await complaints(flock.ready)
    for number in range(burst.COUNT) if not told else ():
        told += await complaints(partial(flock.store.consumptions, f"order-{number}"))
        told += await complaints(partial(read, flock, number))
    return told + await complaints(store.close)


async def complaints(work: Callable[[], Awaitable[object]]) -> list[str]:
    """Do something, and give what StoreErrors say; any other error passes."""
    try:
        await work()
    except StoreError as error:
        return [str(error)]
    return []


async def read(flock: Flock, number: int) -> None:
    """Read one order, which is the right one or none."""
    found = await flock.store.get(f"order-{number}")
    assert found is None or found.payload == burst.Order(number=number)
