"""Who is told what happens, and for how long."""

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from flock import Event
from flock.core.signals import Signals
from flock.direct.events import EventStream
from flock.telemetry.adapter import OpenTelemetry
from flock.testing import FakeClock


@pytest.fixture
def signals() -> Signals:
    return Signals(FakeClock(), OpenTelemetry("orchestrator-1", "shop"), [])


@pytest.fixture
def hurried() -> Iterator[None]:
    """Let threads interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
def test_observers_that_come_and_go_in_several_threads_are_all_told_and_no_other(signals: Signals) -> None:
    told: list[str] = []

    def observer(name: str) -> Callable[[Event], None]:
        return lambda _: told.append(name)

    together = threading.Barrier(3)

    def visit(thread: int) -> None:
        together.wait()
        for number in range(500):
            guest = observer("a guest")
            signals.observe(guest)
            signals.observe(observer(f"{thread}-{number}"))
            signals.dismiss(guest)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signals.emit("tick")
    assert sorted(told) == sorted(f"{thread}-{number}" for thread in range(3) for number in range(500))


def test_in_the_child_of_a_fork_observers_go_on_and_readers_to_the_end_do_not(signals: Signals) -> None:
    told: list[str] = []
    signals.observe(lambda event: told.append(f"observer: {event.kind}"))
    signals.observe(lambda event: told.append(f"reader: {event.kind}"), lambda: told.append("reader: end"))
    signals.forget()
    signals.emit("tick")
    signals.end()
    assert told == ["observer: tick"]


async def test_a_stream_that_begins_after_the_end_gives_nothing_and_is_told_nothing(signals: Signals) -> None:
    signals.end()
    stream = EventStream(signals, 10, lambda async_fn: async_fn())
    assert not signals.listened
    signals.emit("tick")
    assert [event async for event in stream] == []


async def test_a_stream_gives_what_it_holds_and_ends_with_its_board(signals: Signals) -> None:
    stream = EventStream(signals, 10, lambda async_fn: async_fn())
    signals.emit("tick")
    signals.end()
    assert [event.kind async for event in stream] == ["tick"]
