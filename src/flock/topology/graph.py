"""The graph of types and agents."""
from __future__ import annotations
from collections.abc import Iterable
from flock.core.agent import Agent
class Graph:
    """x"""
def graph(agents: Iterable[Agent]) -> Graph:
    """x"""
    return Graph()
