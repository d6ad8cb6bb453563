"""Static reports about how agents fit together: findings and the graph of types."""

from flock.topology.check import Finding, check
from flock.topology.graph import Edge, Graph, Node, graph

__all__ = ["Edge", "Finding", "Graph", "Node", "check", "graph"]
