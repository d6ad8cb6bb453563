"""Findings and graphs: what can't work is said, what flows is drawn, and both are the same every time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import time, timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import flock as facade
from flock import BatchSpec, EvalInputs, Failure, Flock, JoinSpec, Until, When
from flock.declaring.builder import AgentBuilder
from flock.topology import Finding
from flock.topology.wording import condition


class Order(BaseModel):
    key: int = 0


class Express(Order):
    pass


class Paid(BaseModel):
    key: int = 0


class Parcel(BaseModel):
    key: int = 0


class Holder:
    class Order(BaseModel):
        """Another order."""


def nothing(_: EvalInputs) -> Any:
    """Publish nothing."""


def of_kind(flock: Flock, kind: str) -> list[Finding]:
    return [finding for finding in flock.check() if finding.kind == kind]


def key_of(each: Order | Paid | Parcel) -> int:
    return each.key


def shop() -> Flock:
    """Give a flow without anything to complain about."""
    flock = Flock("test")
    flock.agent("cashier").consumes(Order).publishes(Paid)
    flock.agent("packer").consumes(Paid).publishes(Parcel)
    flock.agent("nurse").consumes(Failure).publishes(Parcel)
    return flock


def test_a_board_without_agents_says_so() -> None:
    (finding,) = Flock().check()
    assert finding.to_dict() == {
        "level": "warning",
        "kind": "no-agents",
        "agent": None,
        "message": "there are no agents: declare some with flock.agent(...)",
    }


def test_a_sound_flow_only_says_where_it_begins_and_ends() -> None:
    assert [str(finding) for finding in shop().check()] == [
        "info: Order comes from outside only: cashier takes it and no other agent declares to publish it",
        (
            "info: Parcel is an end of the flow: packer and nurse publish it and no agent consumes it; read it with "
            "stream(Parcel) or store.get_by_type(Parcel)"
        ),
    ]


def test_a_base_or_a_subclass_counts_as_supplied() -> None:
    flock = Flock("test")
    flock.agent("clerk").consumes(Paid).publishes(Express)
    flock.agent("any").consumes(Order).publishes(Parcel)
    flock.agent("narrow").consumes(Parcel).publishes(Order)
    flock.agent("fast").consumes(Express).publishes(Paid)
    assert of_kind(flock, "from-outside") == []
    assert of_kind(flock, "end-of-flow") == []


def test_failures_that_nobody_handles_are_named_and_a_handler_needs_no_supplier() -> None:
    flock = Flock("test")
    flock.agent("cashier").consumes(Order).publishes(Paid)
    assert len(of_kind(flock, "failures-unhandled")) == 1
    assert of_kind(shop(), "failures-unhandled") == []
    assert of_kind(shop(), "unreachable") == []


def test_consuming_a_base_of_everything_does_not_handle_failures() -> None:
    flock = Flock("test")
    flock.agent("log").consumes(BaseModel).publishes(Parcel)
    flock.agent("explicit").consumes(Order).publishes(Failure)
    assert len(of_kind(flock, "failures-unhandled")) == 1
    assert "Failure is an end of the flow" in str(of_kind(flock, "end-of-flow")[-1])


async def test_a_join_whose_window_is_too_short_is_an_error_and_really_never_completes() -> None:
    def joined(within: int) -> Flock:
        flock = Flock("test")
        agent = flock.agent("join").publishes(Parcel)
        agent.consumes(Order, Order, Paid, join=JoinSpec(by=key_of, within=within))
        return flock

    async def fired(flock: Flock) -> int:
        async with flock:
            await flock.publish_many([Order(), Order(), Paid()])
            return (await flock.run_until_idle()).succeeded

    (finding,) = of_kind(joined(1), "impossible-join")
    assert (finding.level, finding.agent) == ("error", "join")
    assert "use within=2 or more" in finding.message
    assert of_kind(joined(2), "impossible-join") == []
    assert [await fired(joined(1)), await fired(joined(2))] == [0, 1]


def test_a_join_by_time_is_never_called_impossible() -> None:
    flock = Flock("test")
    flock.agent("j").consumes(Order, Paid, join=JoinSpec(by=key_of, within=timedelta(seconds=1))).publishes(Parcel)
    assert of_kind(flock, "impossible-join") == []


def test_a_subscription_to_an_agent_that_is_not_there_is_dead() -> None:
    flock = Flock("test")
    flock.agent("packer").consumes(Paid, from_agents="cashir").publishes(Parcel)
    (finding,) = of_kind(flock, "dead-subscription")
    assert finding.level == "warning"
    assert finding.message == (
        "packer takes Paid only from cashir, but there is no agent of that name: this subscription never fires; "
        "correct from_agents= or what is published"
    )


def test_a_gate_is_dead_when_one_of_its_types_can_not_come() -> None:
    flock = Flock("test")
    flock.agent("cashier").consumes(Express).publishes(Paid)
    flock.agent("packer").consumes(Paid, Order, from_agents={"cashier"}).publishes(Parcel)
    (finding,) = of_kind(flock, "dead-subscription")
    assert "takes Order only from cashier, but no agent of that name declares to publish it" in finding.message
    assert "never completes" in finding.message


def test_what_may_come_from_outside_or_from_an_open_agent_is_not_dead() -> None:
    flock = Flock("test")
    flock.agent("open").consumes(Order).calls(nothing)
    flock.agent("a").consumes(Paid, from_agents={"external", "gone"}).publishes(Parcel)
    flock.agent("b").consumes(Paid, from_agents={"open"}).publishes(Parcel)
    flock.agent("c").consumes(Failure, from_agents={"open"}).publishes(Parcel)
    assert of_kind(flock, "dead-subscription") == []
    assert "(open may, without saying so)" in of_kind(flock, "from-outside")[-1].message


def test_what_waits_for_a_dead_agent_is_unreachable() -> None:
    flock = Flock("test")
    flock.agent("dead").consumes(Order, from_agents="nobody").publishes(Paid)
    flock.agent("next").consumes(Paid).publishes(Parcel)
    (finding,) = of_kind(flock, "unreachable")
    assert finding.agent == "next"
    assert "comes from dead, which never fires either" in finding.message


def test_an_agent_that_does_not_trigger_itself_needs_its_input_from_outside() -> None:
    flock = Flock("test")
    flock.agent("counter").consumes(Order).publishes(Order)
    assert of_kind(flock, "endless-loop") == []
    assert len(of_kind(flock, "from-outside")) == 1


def test_a_self_loop_without_a_limit_is_named() -> None:
    flock = Flock("test")
    flock.agent("counter").consumes(Order).publishes(Order).prevent_self_trigger(prevent=False)
    (finding,) = of_kind(flock, "endless-loop")
    assert (finding.level, finding.agent) == ("warning", "counter")
    assert "counter > Order > counter" in finding.message
    assert "counter waits for itself" in of_kind(flock, "loop-needs-start")[0].message


def test_a_ping_pong_is_named_once_with_its_types_and_says_what_starts_it() -> None:
    flock = Flock("test")
    flock.agent("ping").consumes(Paid).publishes(Order)
    flock.agent("pong").consumes(Order).publishes(Paid)
    (endless,) = of_kind(flock, "endless-loop")
    assert "ping > Order > pong > Paid > ping" in endless.message
    (start,) = of_kind(flock, "loop-needs-start")
    assert start.message.startswith("ping and pong wait for each other: nothing starts the loop until Paid or Order is")


LIMITED: dict[str, Callable[[AgentBuilder], object]] = {
    "where": lambda agent: agent.consumes(Order, where=lambda order: order.key < 3).publishes(Paid),
    "tags": lambda agent: agent.consumes(Order, tags={"again"}).publishes(Paid),
    "when": lambda agent: agent.consumes(Order, when=When.count(Paid).at_most(3)).publishes(Paid),
    "count": lambda agent: agent.consumes(Order, Order).publishes(Paid),
    "gate": lambda agent: agent.consumes(Order, Parcel).publishes(Paid),
    "size": lambda agent: agent.consumes(Order, batch=BatchSpec(size=2)).publishes(Paid),
    "from-agents": lambda agent: agent.consumes(Order, from_agents={"other"}).publishes(Paid),
    "direct": lambda agent: agent.consumes(Order, mode="direct").publishes(Paid),
    "output-where": lambda agent: agent.consumes(Order).publishes(Paid, where=lambda paid: paid.key < 3),
    "choice": lambda agent: agent.consumes(Order).publishes(Paid, Parcel),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_a_loop_with_a_declared_limit_is_not_called_endless(kind: str) -> None:
    flock = Flock("test")
    flock.agent("ping").consumes(Paid).publishes(Order)
    LIMITED[kind](flock.agent("pong"))
    assert of_kind(flock, "endless-loop") == []


ENDLESS: dict[str, Callable[[AgentBuilder], object]] = {
    "timeout": lambda agent: agent.consumes(Order, batch=BatchSpec(timeout=1)).publishes(Paid),
    "size-or-timeout": lambda agent: agent.consumes(Order, batch=BatchSpec(size=3, timeout=1)).publishes(Paid),
    "fan-out": lambda agent: agent.consumes(Order, Order).publishes(Paid, fan_out=2),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_loop_that_only_slows_down_or_multiplies_is_endless(kind: str) -> None:
    flock = Flock("test")
    flock.agent("ping").consumes(Paid).publishes(Order, fan_out=2)
    ENDLESS[kind](flock.agent("pong"))
    assert len(of_kind(flock, "endless-loop")) == 1


def test_a_loop_that_something_outside_feeds_needs_no_start() -> None:
    flock = Flock("test")
    flock.agent("writer").consumes(Order).consumes(Paid).publishes(Parcel)
    flock.agent("critic").consumes(Parcel).publishes(Paid)
    assert of_kind(flock, "loop-needs-start") == []
    flock = Flock("test")
    flock.agent("ping").consumes(Paid).publishes(Order).schedule(every=1)
    flock.agent("pong").consumes(Order).publishes(Paid)
    assert of_kind(flock, "loop-needs-start") == []


def test_a_gate_over_an_outer_and_a_looped_type_needs_a_start() -> None:
    flock = Flock("test")
    flock.agent("x").consumes(Order, Paid).publishes(Parcel)
    flock.agent("y").consumes(Parcel).publishes(Paid)
    (finding,) = of_kind(flock, "loop-needs-start")
    assert "until Paid or Parcel is published from outside" in finding.message
    assert of_kind(flock, "unreachable") == []


def test_a_condition_over_what_nobody_publishes_is_named() -> None:
    flock = Flock("test")
    flock.agent("a").consumes(Order, when=When.exists(Paid) & When.exists(Failure)).publishes(Parcel)
    flock.agent("b").consumes(Order, when=When.exists(Parcel, produced_by="c")).publishes(Parcel)
    flock.agent("d").consumes(Order, when=When.exists(Parcel, produced_by="a")).publishes(Parcel)
    (outside,) = of_kind(flock, "condition-from-outside")
    (dead,) = of_kind(flock, "dead-condition")
    assert (outside.level, outside.agent) == ("info", "a")
    assert "counts Paid, which comes from outside only" in outside.message
    assert (dead.level, dead.agent) == ("warning", "b")
    assert "counts Parcel by 'c', which does not publish it" in dead.message
    assert of_kind(flock, "end-of-flow") == []


def test_agents_that_only_run_when_invoked_and_open_ones_are_named() -> None:
    flock = Flock()
    flock.agent("bare").calls(nothing)
    flock.agent("told").consumes(Order, mode="direct").publishes(Paid).calls(nothing)
    flock.agent("timed").schedule(every=1).calls(nothing)
    assert [finding.agent for finding in of_kind(flock, "direct-only")] == ["bare", "told"]
    assert of_kind(flock, "undeclared-outputs")[0].agent == "bare"


def test_errors_come_first_and_information_last() -> None:
    flock = Flock("test")
    flock.agent("loop").consumes(Paid).publishes(Paid).prevent_self_trigger(prevent=False)
    flock.agent("join").consumes(Order, Order, Parcel, join=JoinSpec(by=key_of, within=1)).publishes(Parcel)
    levels = [finding.level for finding in flock.check()]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
    assert len(set(levels)) == 3


def everything() -> Flock:
    """Give a flow with each kind of label."""
    flock = Flock("test")
    flock.agent("split").consumes(Order).publishes(Paid, fan_out=3).publishes(Parcel, fan_out=(0, 2))
    join = JoinSpec(by=key_of, within=timedelta(hours=2))
    flock.agent("join").consumes(Paid, Paid, Parcel, join=join, scope="board").best_of(3).publishes(Express)
    batch = BatchSpec(size=10, timeout=timedelta(seconds=1.5))
    flock.agent("batch").consumes(Express, batch=batch, where=lambda _: True).publishes(Holder.Order)
    when = When.count(Paid).at_least(2) & ~When.count(Parcel).exactly(1) | When.count(Parcel).at_most(4)
    flock.agent("held").consumes(Holder.Order, when=when, tags={"b", "a"}, from_agents="batch")
    flock.agent("asked").consumes(Paid, mode="direct").publishes(Paid, where=lambda _: True)
    flock.agent("gate").consumes(Order, Paid).schedule(at=time(9, 30), tz="Europe/Berlin")
    flock.agent("within").consumes(Order, Paid, join=JoinSpec(by=key_of, within=5), batch=BatchSpec(size=2))
    return flock


def test_edges_say_how_inputs_are_collected_and_outputs_chosen() -> None:
    here = Path(__file__).stem
    drawn = everything().graph().to_dict()
    assert [node["id"] for node in drawn["nodes"]][:2] == [f"type:{Order.__module__}:Order", "agent:split"]
    assert here in Order.__module__
    assert {node["note"] for node in drawn["nodes"]} == {"", "daily at 09:30:00 Europe/Berlin"}
    labels = [(edge["target"].removeprefix("agent:"), edge["label"]) for edge in drawn["edges"] if edge["label"]]
    parcel, paid = f"type:{Parcel.__module__}:Parcel", f"type:{Paid.__module__}:Paid"
    ours = f"{Order.__module__}:"
    assert labels == [
        (paid, "3 of them"),
        (parcel, "0 to 2 of them"),
        ("join", "2 of them, join with Parcel, by key within 2 h, across runs"),
        ("join", "join with Paid, by key within 2 h, across runs"),
        (f"type:{Express.__module__}:Express", "best of 3"),
        ("batch", "batch of 10 or after 1.5 s, where"),
        ("held", "when ((2 or more Paid and not 1 Parcel) or 0 to 4 Parcel), tagged a b, from batch"),
        ("asked", "only when invoked"),
        (paid, "where"),
        ("gate", "together with Paid"),
        ("gate", f"together with {ours}Order"),
        ("within", "join with Paid, by key within 5, batch of 2"),
        ("within", f"join with {ours}Order, by key within 5, batch of 2"),
        (f"type:{ours}Order", "is a"),
    ]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"every": 90}, "every 90 s"),
        ({"every": timedelta(days=2)}, "every 2 d"),
        ({"every": timedelta(minutes=5)}, "every 5 min"),
        ({"at": "2030-01-31T09:00"}, "once at 2030-01-31T09:00:00"),
        ({"cron": "*/15 9 * * MON"}, "cron */15 9 * * MON"),
    ],
)
def test_schedules_stand_with_their_agent(schedule: dict[str, Any], words: str) -> None:
    flock = Flock("test")
    flock.agent("timed").schedule(**schedule)
    (node,) = flock.graph().nodes
    assert node.note == words
    assert words in flock.graph().dot()


def test_idleness_has_a_word() -> None:
    assert condition(Until.idle(), str) == "idle"


def test_two_classes_of_one_name_are_told_apart() -> None:
    flock = Flock("test")
    flock.agent("a").consumes(Order).publishes(Holder.Order)
    labels = [node.label for node in flock.graph().nodes if node.kind == "type"]
    assert labels == [f"{Order.__module__}:Order", f"{Order.__module__}:Holder.Order"]


def test_mermaid_and_dot_draw_the_same_small_flow() -> None:
    flock = Flock("test")
    flock.agent("cashier").consumes(Express).consumes(Order).publishes(Paid).schedule(every=1)
    assert flock.graph().mermaid() == (
        "flowchart LR\n"
        '    t0["Express"]\n'
        '    t1["Order"]\n'
        '    a2(["cashier<br/>every 1 s"])\n'
        '    t3["Paid"]\n'
        "    t0 --> a2\n"
        "    t1 --> a2\n"
        "    a2 --> t3\n"
        '    t0 -.->|"is a"| t1\n'
    )
    assert flock.graph().dot() == (
        "digraph flock {\n"
        "    rankdir=LR;\n"
        '    t0 [label="Express", shape=note];\n'
        '    t1 [label="Order", shape=note];\n'
        '    a2 [label="cashier\\nevery 1 s", shape=box, style="rounded"];\n'
        '    t3 [label="Paid", shape=note];\n'
        "    t0 -> a2;\n"
        "    t1 -> a2;\n"
        "    a2 -> t3;\n"
        '    t0 -> t1 [label="is a", style="dashed"];\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("name", "mermaid", "dot"),
    [
        ('say "hi"', "say #34;hi#34;", r'"say \"hi\""'),
        ("a\\b\nc", "a#92;b#10;c", r'"a\\b\nc"'),
        ("<b>#1</b> `x` [y]|{z}", "#60;b#62;#35;1#60;/b#62; #96;x#96; #91;y#93;#124;#123;z#125;", None),
        ("1. first", "1#46; first", '"1. first"'),
        ("- item", "#45; item", '"- item"'),
        ("stand-in 2.5", "stand-in 2.5", '"stand-in 2.5"'),
        ("größe 数", "größe 数", '"größe 数"'),
    ],
)
def test_names_are_escaped(name: str, mermaid: str, dot: str | None) -> None:
    flock = Flock("test")
    flock.agent(name).schedule(every=1).publishes(Paid)
    drawn = flock.graph()
    assert f'a0(["{mermaid}<br/>every 1 s"])' in drawn.mermaid()
    assert dot is None or f'a0 [label={dot[:-1]}\\nevery 1 s"' in drawn.dot()
    assert json.loads(drawn.json()) == drawn.to_dict()
    assert drawn.to_dict()["nodes"][0]["label"] == name


def test_a_notebook_shows_the_mermaid_drawing() -> None:
    drawn = shop().graph()
    assert methodcaller("_repr_markdown_")(drawn) == f"```mermaid\n{drawn.mermaid()}```\n"


def test_reports_do_not_depend_on_the_hash_seed() -> None:
    text = (
        "from flock import Flock, When, Failure\n"
        "from pydantic import BaseModel\n"
        "class A(BaseModel): pass\nclass B(BaseModel): pass\nclass C(BaseModel): pass\n"
        "flock = Flock('test')\n"
        "flock.agent('x').consumes(A, from_agents={'p', 'q', 'r'}, tags={'s', 't', 'u'}).publishes(B, C)\n"
        "flock.agent('y').consumes(B).publishes(A)\nflock.agent('z').consumes(C).publishes(A)\n"
        "print(flock.graph().mermaid(), flock.graph().json(), *flock.check(), sep='\\n')\n"
    )
    where = str(Path(str(facade.__file__)).parent.parent)
    said = {
        subprocess.run(  # noqa: S603 - our own interpreter and our own text
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": where},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(said) == 1
