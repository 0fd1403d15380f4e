"""The captured network: plain data, free of torch."""

from ai3.graph.expression import Expression
from ai3.graph.graph import Graph, Node, Plain, Record, Weight, assemble

__all__ = ["Expression", "Graph", "Node", "Plain", "Record", "Weight", "assemble"]
