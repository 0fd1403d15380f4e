"""The captured network: plain data, free of torch."""

from ai3.graph.graph import Graph, Node, Weight

__all__ = ["Graph", "Node", "Weight"]
