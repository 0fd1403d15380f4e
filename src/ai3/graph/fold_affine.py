"""Fold what scales and shifts each channel into the weights before it."""

from typing import Any

import numpy as np

from ai3.arrays import Bfloat16Array
from ai3.graph.graph import CONSTANT, Graph, Node

Array = np.ndarray[Any, Any]

CHANNEL = {"conv2d": -3, "conv_transpose2d": -3, "linear": -1}
"""For the operations that have weights for each output channel, the dimension of those."""


def fold_affine(graph: Graph) -> Graph:
    """Let a batch norm, and a product or sum with a constant for each channel, vanish into the
    convolution or linear layer that alone it reads, directly or through a permutation.

    y = scale * (W x + b) + shift has the weights scale * W and scale * b + shift, computed in
    float64; for a batch norm scale = gamma / sqrt(var + eps) and shift = beta - mean * scale.
    """
    uses = graph.uses()
    nodes = {node.name: node for node in graph.nodes}
    names: dict[str, str] = {}
    for node in graph.nodes:
        found = _affine(node, nodes)
        if found is None:
            continue
        source, axis, scale, shift = found
        source = below = names.get(source, source)
        while uses[below] == 1 and below in nodes and nodes[below].op == "permute":
            dims = nodes[below].attributes["dims"]
            if not isinstance(dims, tuple | list) or (axis is not None and -axis > len(dims)):
                break
            axis = None if axis is None else dims[axis] % len(dims) - len(dims)
            below = names.get(nodes[below].inputs[0], nodes[below].inputs[0])
        if uses[below] != 1:
            continue
        target = nodes.get(below)
        if target is None or target.op not in CHANNEL or axis not in (None, CHANNEL[target.op]):
            continue
        changed = _scaled(target, scale, shift)
        if changed is not None:
            nodes[below] = changed
            names[node.name] = source
            uses[source] = uses[node.name]
    kept = tuple(nodes[node.name] for node in graph.nodes if node.name not in names)
    return graph.renamed(kept, names).needed()


def _affine(node: Node, nodes: dict[str, Node]) -> tuple[str, int | None, Array, Array] | None:
    """What the node scales and shifts, along which dimension (None for all alike), by what."""
    read = nodes.get(node.inputs[0]) if node.inputs else None
    of_image = read is not None and CHANNEL.get(read.op) == -3
    if node.op == "batchnorm2d" or (node.op == "batch_norm" and of_image):
        gamma, beta, mean, variance = node.weights
        assert mean is not None and variance is not None
        scale = 1 / np.sqrt(variance.astype(np.float64) + float(node.attributes["eps"]))
        if gamma is not None:
            scale *= gamma
        return node.inputs[0], -3, scale, (0.0 if beta is None else beta) - mean * scale
    if node.op == "mul" or (node.op == "add" and node.attributes.get("alpha", 1) == 1):
        for source, other in (node.inputs, node.inputs[::-1]):
            constant = nodes.get(other)
            value = None if constant is None else _value(constant)
            # Where it has more dimensions than the channel's and those after it, so has the result.
            if value is not None and source != other:
                filled = [dim for dim, extent in enumerate(value.shape) if extent != 1]
                if value.ndim and filled != [0]:
                    return None
                axis = -value.ndim if value.ndim else None
                flat = value.astype(np.float64).reshape(-1)
                if node.op == "mul":
                    return source, axis, flat, np.zeros_like(flat)
                return source, axis, np.ones_like(flat), flat
    return None


def _value(node: Node) -> Array | None:
    """The number or array that a constant is, if it depends on no shape."""
    if node.op != CONSTANT:
        return None
    value = node.weights[0] if node.weights else node.attributes["value"]
    return np.asarray(value) if isinstance(value, np.ndarray | int | float) else None


def _scaled(node: Node, scale: Array, shift: Array) -> Node | None:
    """The node with weights for the scaled and shifted output; None where they do not fit."""
    held, bias = node.weights
    assert held is not None
    weight = np.asarray(held)
    groups = node.attributes.get("groups", 1) if node.op == "conv_transpose2d" else 1
    channels = weight.shape[1] * groups if node.op == "conv_transpose2d" else weight.shape[0]
    if scale.size not in (1, channels):
        return None
    scale, shift = np.broadcast_to(scale, channels), np.broadcast_to(shift, channels)
    if node.op == "conv_transpose2d":
        # (IC, OC / groups, KH, KW): the groups lie one after the other along IC.
        split = weight.reshape(groups, -1, *weight.shape[1:])
        scaled = (split * scale.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    moved = shift if bias is None else bias.astype(np.float64) * scale + shift
    scaled = scaled.astype(weight.dtype)
    narrow = isinstance(held, Bfloat16Array)  # what it is multiplied as, too
    kept = Bfloat16Array.rounded(scaled) if narrow else scaled
    return node.having(weights=(kept, moved.astype(weight.dtype)))
