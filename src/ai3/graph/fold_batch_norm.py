"""Fold batch normalisation into the convolution before it."""

from dataclasses import replace

import numpy as np

from ai3.graph.graph import Graph, Node


def fold_batch_norm(graph: Graph) -> Graph:
    """Scale the weights of each conv2d whose only reader is a batchnorm2d, which then vanishes.

    y = (conv(x) - mean) * gamma / sqrt(var + eps) + beta is a convolution with weights scaled by
    gamma / sqrt(var + eps) for each output channel. Computed in float64.
    """
    uses = graph.uses()
    producers = {node.name: node for node in graph.nodes}
    folded: dict[str, Node] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        conv = producers.get(node.inputs[0]) if node.op == "batchnorm2d" else None
        if conv is not None and conv.op == "conv2d" and uses[conv.name] == 1:
            folded[conv.name] = _fold(conv, node)
            names[node.name] = conv.name
    kept = tuple(folded.get(node.name, node) for node in graph.nodes if node.name not in names)
    return graph.renamed(kept, names)


def _fold(conv: Node, norm: Node) -> Node:
    weight, bias = conv.weights
    gamma, beta, mean, variance = norm.weights
    assert weight is not None and mean is not None and variance is not None
    scale = 1 / np.sqrt(variance.astype(np.float64) + float(norm.attributes["eps"]))
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale if bias is None else (bias - mean.astype(np.float64)) * scale
    if beta is not None:
        shift = shift + beta
    weights = (
        (weight * scale[:, None, None, None]).astype(weight.dtype),
        shift.astype(weight.dtype),
    )
    return replace(conv, weights=weights)
