"""Compute a depthwise convolution with the pointwise one that expands its channels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ai3 import _core
from ai3.graph.graph import Graph, Node
from ai3.graph.specialize import problem_of
from ai3.graph.weights import WeightStore

LEAST_BYTES = 1 << 19
LEAST_PIXELS = 28 * 28
"""How large the expanded images together, and one of them, must be: others stay in near caches."""

DEPTHWISE = (
    *("stride", "padding", "dilation", "activation", "activation_parameter"),
    "output_dtype",
)


@dataclass(frozen=True)
class Pair:
    """A pointwise convolution and the depthwise one after it, both of blocked images, where nothing
    else reads the image between them; and whether they became one operation."""

    before: Node
    node: Node
    fused: bool = False

    @property
    def outer(self) -> tuple[str, str]:
        """What the first reads and the second writes."""
        return self.before.inputs[0], self.node.name


def fuse_expansions(
    graph: Graph, weights: WeightStore, only: Collection[str] | None = None
) -> tuple[Graph, list[Pair]]:
    """Make a pointwise convolution and the depthwise one after it, both of blocked images and by
    "default" the direct algorithm, one `expand_depthwise`, where the image between them is large
    and nothing else reads it. The node takes the place and name of the second. Also gives all
    pairs that were candidates. Where `only` is given, what is fused is what it names."""
    uses = graph.uses()
    nodes: dict[str, Node] = {}
    pairs: list[Pair] = []
    for node in graph.nodes:
        before = nodes.get(node.inputs[0]) if node.inputs else None
        if before is not None and uses[before.name] == 1 and _may_expand(before, node, graph):
            pair = Pair(before, node)
            if expands(pair, graph.specs, weights) if only is None else node.name in only:
                pair = replace(pair, fused=True)
                del nodes[before.name]
                node = _fused(before, node)
            pairs.append(pair)
        nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values())), pairs


def expands(pair: Pair, specs: Mapping[str, _core.Spec], weights: WeightStore) -> bool:
    """Whether to fuse them where what they read and write has these specs: as measured or, where it
    was not, by their size."""
    before, node = pair.before, pair.node
    image = specs[before.inputs[0]]
    n, _, height, width = image.shape
    if height * width < LEAST_PIXELS:
        return False
    expanded = _core.Spec(image.dtype, (n, _shape(before)[0], height, width), "blocked")
    if expanded.bytes < LEAST_BYTES:
        return False
    known = {**{name: specs[name] for name in pair.outer}, before.name: expanded}
    pieces = [problem_of(each, known, weights) for each in (before, node)]
    whole = problem_of(_fused(before, node), known, weights)
    if whole.refusal("direct") or {before.algorithm, node.algorithm} != {"default"}:
        return False
    chosen = [piece.resolve("default") for piece in pieces]
    taken = whole.measured("direct")
    apart = [piece.measured(name) for piece, name in zip(pieces, chosen, strict=True)]
    if taken is not None and None not in apart:
        return taken <= sum(each for each in apart if each is not None)
    return chosen == ["direct", "direct"]


def _may_expand(before: Node, node: Node, graph: Graph) -> bool:
    if not before.op == node.op == "conv2d" or len(before.inputs) + len(node.inputs) > 2:
        return False
    kernel, channels = _shape(before)[2:], _shape(before)[0]
    pointwise = kernel == (1, 1) and _all(before.attributes, stride=1, padding=0, groups=1)
    depthwise = _shape(node)[0] == channels and _all(
        node.attributes, groups=channels, padding_mode="zeros"
    )
    names = (before.inputs[0], before.name, node.name)
    specs = [graph.specs[name] for name in names]
    read, between, written = (spec.dtype for spec in specs)
    same = read == between and (read == "bfloat16" or between == written)
    return pointwise and depthwise and same and {spec.layout for spec in specs} == {"blocked"}


def _fused(before: Node, node: Node) -> Node:
    own = {name: node.attributes[name] for name in DEPTHWISE if name in node.attributes}
    expand = {
        f"expand_{name}": before.attributes[name]
        for name in ("activation", "activation_parameter")
        if name in before.attributes
    }
    pairs = [(*each.weights, None)[:2] for each in (before, node)]
    return Node(
        node.name,
        "expand_depthwise",
        before.inputs,
        {**own, **expand},
        (*pairs[0], *pairs[1]),
        module=f"{before.label} + {node.label}",
    )


def _shape(node: Node) -> tuple[int, ...]:
    weight = node.weights[0]
    assert weight is not None
    return tuple(weight.shape)


def _all(attributes: Mapping[str, Any], **wanted: Any) -> bool:
    """Whether attributes have these values, as one or as a pair, or are absent."""

    def has(name: str, value: Any) -> bool:
        found = attributes.get(name, value)
        return bool(found == value or (isinstance(found, list | tuple) and set(found) == {value}))

    return all(has(name, value) for name, value in wanted.items())
