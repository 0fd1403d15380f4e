"""Passes over graphs whose shapes are known: each removes what it should and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3 import _core
from ai3.graph import Graph, Node
from ai3.graph.eliminate import eliminate
from ai3.graph.expression import shape_of
from ai3.graph.fold_constants import fold_constants
from ai3.graph.specialize import specialize
from ai3.graph.weights import WeightStore


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def ops_for(function: Callable[[Tensor], Tensor], x: Tensor) -> list[str]:
    """The operations that run, when the result is torch's."""
    model = ai3.swap_backend(Function(function))
    torch.testing.assert_close(model(x), function(x.clone()))
    return [node.op for node in model.graph_for(x).nodes]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(x.shape),
        lambda x: x.permute(0, 1, 2, 3),
        lambda x: x.transpose(1, 2).transpose(2, 1),
        lambda x: F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)),
        lambda x: torch.roll(x, (0, 0), (2, 3)),
        lambda x: x[:, :, : x.shape[2]],
        lambda x: x.expand(x.shape[0], -1, -1, -1),
        lambda x: torch.cat([x], 1),
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.contiguous().clone(),
        lambda x: F.dropout(x, 0.5, training=False),
    ],
)
def test_what_changes_nothing_is_removed(function: Callable[[Tensor], Tensor]) -> None:
    left = ops_for(lambda x: torch.relu(function(torch.relu(x))), torch.randn(2, 3, 4, 6))
    assert left == ["relu", "relu"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: F.pad(x, (1, -1)),
        lambda x: torch.roll(x, 1, 2),
        lambda x: x[:, :, 1:],
        lambda x: torch.flatten(x, 1),
    ],
)
def test_what_changes_something_is_kept(function: Callable[[Tensor], Tensor]) -> None:
    assert len(ops_for(lambda x: torch.relu(function(torch.relu(x))), torch.randn(2, 3, 4, 4))) == 3


def test_permutations_in_a_row_are_one() -> None:
    left = ops_for(
        lambda x: torch.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).permute(2, 0, 1, 3),
        torch.randn(2, 3, 4, 5),
    )
    assert left == ["permute", "relu", "permute"]


def shuffled(x: Tensor, parts: int, dim: int = 1) -> Tensor:
    """The channels of x and of what follows from it, taken in turns."""
    branches = [torch.relu(x), *(torch.sigmoid(x) for _ in range(parts - 1))]
    whole = torch.cat(branches, dim)
    split = whole.unflatten(dim, (parts, x.shape[dim]))
    return split.transpose(dim, dim + 1).reshape(whole.shape)


@pytest.mark.parametrize(("parts", "dim"), [(2, 1), (3, 1), (2, 3), (2, 0)])
def test_a_shuffle_of_branches_is_one_operation(parts: int, dim: int) -> None:
    left = ops_for(lambda x: torch.tanh(shuffled(x, parts, dim)), torch.randn(2, 5, 4, 3))
    assert [op for op in left if op not in ("relu", "sigmoid")] == ["interleave", "tanh"]


def test_a_shuffle_that_stays_split_is_a_stack() -> None:
    left = ops_for(
        lambda x: torch.stack([torch.relu(x), torch.sigmoid(x)], 2).sigmoid(), torch.randn(2, 5, 4)
    )
    assert left == ["relu", "sigmoid", "stack", "sigmoid"]


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (2, 3)])
def test_parts_of_a_shuffle_are_taken_at_once(sizes: tuple[int, int]) -> None:
    def split(x: Tensor) -> Tensor:
        whole, (first, second) = shuffled(x, 2), sizes
        return torch.cat([whole[:, -second:].sigmoid(), whole[:, :first].tanh()], 1)

    left = ops_for(split, torch.randn(2, 4, 4, 3))
    assert left.count("interleave") == 2 and "slice" not in left


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([x[:, :4].sigmoid(), x[:, 4:].tanh(), x.relu()], 1),
        lambda x: torch.cat([x[:, ::2].sigmoid(), x[:, 1::2].tanh()], 1),
        lambda x: x[:, :4].sigmoid() + x[:, 4:].tanh() + x[:, 4:, 1:].tanh().mean(),
        lambda x: torch.cat([x[:, :7].sigmoid(), x[:, 1:].tanh()], 1),
    ],
    ids=["whole too", "every second", "other dimension", "overlapping"],
)
def test_other_parts_of_a_shuffle_stay_slices(function: Callable[[Tensor], Tensor]) -> None:
    left = ops_for(lambda x: function(shuffled(x, 2)), torch.randn(2, 4, 4, 3))
    assert left.count("interleave") == 1 and "slice" in left


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: torch.cat([a, b[:, :2]], 1).reshape(2, 2, 3, 16).transpose(1, 2),
        lambda a, b: torch.cat([a, b], 1).reshape(2, 4, 2, 16).transpose(1, 2),
        lambda a, b: torch.cat([a, b], 1).reshape(2, 2, 4, 16).permute(0, 2, 3, 1),
        lambda a, b: torch.cat([a, b], 2).reshape(2, 2, 4, 16).transpose(1, 2),
        lambda a, b: (
            (both := torch.cat([a, b], 1)).reshape(2, 2, 4, 4, 4).transpose(1, 2)
            + both.reshape(2, 4, 2, 4, 4)
        ),
    ],
    ids=["unequal parts", "other split", "other permutation", "other dimension", "read twice"],
)
def test_other_permutations_of_branches_are_no_stack(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    left = ops_for(lambda x: function(torch.relu(x), torch.sigmoid(x)), torch.randn(2, 4, 4, 4))
    assert "concat" in left and "permute" in left and "stack" not in left


def test_constants_are_computed_once() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.scale = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            rows = (self.table * self.scale).expand(x.shape[0], -1, -1)
            return torch.cat([x, rows], 1)

    net = Table()
    model = ai3.swap_backend(net)
    for batch in (1, 3):
        x = torch.randn(batch, 2, 3)
        torch.testing.assert_close(model(x), net(x).detach())
        assert [node.op for node in model.graph_for(x).nodes] == ["constant", "concat"]


def test_a_pass_leaves_its_graph_alone() -> None:
    nodes = (
        Node("c", "constant", (), {"value": shape_of("x")[0]}),
        Node("d", "add", ("c", "c"), {"alpha": 1}),
        Node("r", "reshape", ("x",), {"shape": shape_of("x")}),
        Node("y", "add", ("r", "d"), {"alpha": 1}),
    )
    graph = Graph(("x",), nodes, ("y",))
    store = WeightStore(graph)
    known = specialize(graph, [_core.Spec("float64", (3, 2))], store)
    before = str(known)
    folded = fold_constants(known, store)
    left = eliminate(folded, store)
    assert str(known) == before
    assert [node.op for node in folded.nodes] == ["constant", "reshape", "add"]
    assert folded.nodes[0].weights[0] == np.float64(6)
    assert [node.op for node in left.nodes] == ["constant", "add"]
    assert left.nodes[1].inputs == ("x", "d")


def test_a_graph_that_does_not_fit_names_the_node_and_what_it_requires() -> None:
    graph = Graph(("x",), (Node("y", "relu", ("x",)),), ("y",), checks=())
    check = Graph(("x",), graph.nodes, ("y",), 0, (shape_of("x")[0] % 2,))
    store = WeightStore(graph)
    with pytest.raises(ValueError, match=r"requires x\.shape\[0\] % 2"):
        specialize(check, [_core.Spec("float32", (2, 2))], store)
    specialize(check, [_core.Spec("float32", (3, 2))], store)
