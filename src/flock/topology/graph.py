"""The graph of agents and types: what an agent takes and what it makes, to draw or to save."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from flock.core.agent import Agent
from flock.model.payload import type_name
from flock.topology import wording
from flock.topology.flow import Flow, Model

_PLAIN = frozenset(" _,:/().-")
_LIST = re.compile(r"\s*(\d+\.|-)\s")  # what Markdown takes for the start of a list


class Node(NamedTuple):
    """An agent or a type. `id` is the same in every process; `note` is a schedule's words, or empty."""

    id: str
    kind: Literal["agent", "type"]
    label: str
    note: str = ""


class Edge(NamedTuple):
    """What goes where: a type into an agent, an agent's output, or a subclass that counts as its base."""

    source: str
    target: str
    kind: Literal["consumes", "publishes", "is a"]
    label: str = ""


class Graph(NamedTuple):
    """A drawing of agents and types, the same every time: in order of declaration."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the graph as plain JSON data."""
        return {"nodes": [node._asdict() for node in self.nodes], "edges": [edge._asdict() for edge in self.edges]}

    def json(self) -> str:
        """Give the graph as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def mermaid(self) -> str:
        """Give the graph as a Mermaid flowchart: agents round, types square."""
        names = self._names()
        lines = ["flowchart LR"]
        for node in self.nodes:
            text = "<br/>".join(_mermaid_text(part) for part in (node.label, node.note) if part)
            opening, closing = ("([", "])") if node.kind == "agent" else ("[", "]")
            lines.append(f'    {names[node.id]}{opening}"{text}"{closing}')
        for edge in self.edges:
            arrow = "-.->" if edge.kind == "is a" else "-->"
            label = f'|"{_mermaid_text(edge.label)}"|' if edge.label else ""
            lines.append(f"    {names[edge.source]} {arrow}{label} {names[edge.target]}")
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """Give the graph in the language of Graphviz: agents as rounded boxes, types as notes."""
        names = self._names()
        lines = ["digraph flock {", "    rankdir=LR;"]
        for node in self.nodes:
            text = _dot_text("\n".join(part for part in (node.label, node.note) if part))
            shape = 'shape=box, style="rounded"' if node.kind == "agent" else "shape=note"
            lines.append(f"    {names[node.id]} [label={text}, {shape}];")
        for edge in self.edges:
            parts = [f"label={_dot_text(edge.label)}"] if edge.label else []
            parts += ['style="dashed"'] if edge.kind == "is a" else []
            shown = f" [{', '.join(parts)}]" if parts else ""
            lines.append(f"    {names[edge.source]} -> {names[edge.target]}{shown};")
        return "\n".join([*lines, "}"]) + "\n"

    def _repr_markdown_(self) -> str:
        """Draw itself where Markdown knows Mermaid, as notebooks do."""
        return f"```mermaid\n{self.mermaid()}```\n"

    def _names(self) -> dict[str, str]:
        return {node.id: f"{node.kind[0]}{number}" for number, node in enumerate(self.nodes)}


def graph(agents: Iterable[Agent]) -> Graph:
    """Draw how agents and types hang together."""
    flow = Flow(tuple(agents))
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    for agent in flow.agents:
        for kind in _mentioned(agent, before=True):
            nodes.setdefault(_type_id(kind), _type_node(flow, kind))
        note = "" if agent.schedule is None else wording.schedule(agent.schedule)
        nodes[_agent_id(agent)] = Node(id=_agent_id(agent), kind="agent", label=agent.name, note=note)
        for kind in _mentioned(agent, before=False):
            nodes.setdefault(_type_id(kind), _type_node(flow, kind))
        edges |= dict.fromkeys(_edges_of(flow, agent))
    edges |= dict.fromkeys(_descents([kind for kind in flow.types if _type_id(kind) in nodes]))
    return Graph(nodes=tuple(nodes.values()), edges=tuple(edges))


def _mentioned(agent: Agent, *, before: bool) -> Iterator[Model]:
    if before:
        return (kind for subscription in agent.subscriptions for kind in subscription.types)
    return (kind for group in agent.outputs for kind in group.types)


def _edges_of(flow: Flow, agent: Agent) -> Iterator[Edge]:
    me = _agent_id(agent)
    for subscription in agent.subscriptions:
        for kind in subscription.types:
            label = wording.intake(subscription, kind, flow.label)
            yield Edge(source=_type_id(kind), target=me, kind="consumes", label=label)
    for group in agent.outputs:
        for kind in group.counts:
            yield Edge(source=me, target=_type_id(kind), kind="publishes", label=wording.output(agent, group, kind))


def _descents(kinds: Sequence[Model]) -> Iterator[Edge]:
    """Give an edge from each type to its nearest base that is drawn as well."""
    for kind in kinds:
        base = next((base for base in kind.__mro__[1:] if base in kinds), None)
        if base is not None:
            yield Edge(source=_type_id(kind), target=_type_id(base), kind="is a", label="is a")


def _agent_id(agent: Agent) -> str:
    return f"agent:{agent.name}"


def _type_id(kind: Model) -> str:
    return f"type:{type_name(kind)}"


def _type_node(flow: Flow, kind: Model) -> Node:
    return Node(id=_type_id(kind), kind="type", label=flow.label(kind))


def _mermaid_text(text: str) -> str:
    """Write every character that Mermaid or Markdown could read as syntax by its number."""
    plain = _PLAIN - {".", "-"} if _LIST.match(text) else _PLAIN
    written = "".join(char if char.isalnum() or char in plain else f"#{ord(char)};" for char in text)
    return written or " "


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'
