"""Static reports about how agents fit together: findings and the graph of types."""

from flock.topology.check import Finding, check
from flock.topology.graph import Graph, graph

__all__ = ["Finding", "Graph", "check", "graph"]
