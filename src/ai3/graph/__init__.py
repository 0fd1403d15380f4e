"""The captured network: plain data, free of torch."""

from ai3.graph.expression import Expression
from ai3.graph.graph import Graph, Node, Record, Weight, assemble

__all__ = ["Expression", "Graph", "Node", "Record", "Weight", "assemble"]
