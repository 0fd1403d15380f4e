"""Plans made of the plan for another size are those that planning from the start would make."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3 import _core
from ai3.graph import Graph
from ai3.graph.compile import Compiled, compile_graph
from runners import networks

Shape = tuple[int, ...]


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(torch.relu(self.first(x)))


def compiled(model: ai3.Model, shape: Shape, like: Sequence[Any] = ()) -> Compiled | None:
    """Planned from the start; None for a size that does not fit."""
    (part,) = model._parts
    assert isinstance(part, Graph)
    try:
        return compile_graph(part, [_core.Spec("float32", shape)], model._weights, like=like)
    except ValueError:
        return None


def resizes(model: ai3.Model, first: Compiled, shape: Shape) -> bool:
    """Whether the plan becomes one for the other size; then it is as if planned from the start."""
    assert first.resizable is not None
    specs = [_core.Spec("float32", shape)]
    executor = first.resizable.executor(specs)
    if executor is None:
        return False
    whole = compiled(model, shape, [first.layouts])
    assert whole is not None and whole.layouts is first.layouts
    assert executor.algorithms == whole.executor.algorithms
    assert executor.arena_bytes == whole.executor.arena_bytes
    assert executor.workspace_bytes == whole.executor.workspace_bytes
    schedule, values = first.resizable.schedule.resized(specs, 1 << 24), first.resizable.values
    assert schedule is not None
    for ours, theirs in zip(first.graph.nodes, whole.graph.nodes, strict=True):
        assert (ours.name, ours.op, ours.inputs) == (theirs.name, theirs.op, theirs.inputs)
        assert schedule.spec(values[ours.name]) == whole.graph.specs[ours.name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for got, expected in zip(executor([x]), whole.executor([x]), strict=True):
        np.testing.assert_array_equal(got, expected)
    return True


SIZES: list[Shape] = [
    (1, 4, 8, 8),
    (1, 4, 8, 12),
    (1, 4, 8, 13),
    (1, 4, 11, 7),
    (1, 4, 12, 12),
    (1, 4, 1, 8),
    (1, 4, 1, 1),
    (1, 4, 2, 2),
    (2, 4, 8, 12),
    (3, 4, 12, 8),
    (1, 4, 4, 9),
]


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(heads, heads, heads)
    return mixed.transpose(1, 2).flatten(2) + tokens


def pyramid(x: Tensor) -> Tensor:
    small = F.max_pool2d(x, 3, 2, 1)
    return x + F.interpolate(torch.tanh(small) * 2, size=x.shape[2:], mode="nearest")


def even(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)), 2)


FOLLOWED: list[Callable[[Tensor], Tensor]] = [
    lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1)),
    lambda x: x + x.mean((2, 3), keepdim=True),
    lambda x: torch.cat([x.relu(), x.tanh()], 1)[:, 4:],
    lambda x: torch.cat([x, x[..., : x.shape[3] // 2]], 3),
    lambda x: x.permute(0, 3, 1, 2).flatten(2).transpose(1, 2),
    lambda x: x.flatten(2).unflatten(1, (2, 4)).flatten(1, 2) * 2,
    lambda x: x.reshape(x.shape[0], -1).view(x.shape).tanh(),
    lambda x: x.unsqueeze(1).squeeze(1).tanh(),
    lambda x: x.view(x.shape[0], 2, 4, x.shape[2], x.shape[3]).mean(2),
    lambda x: x[:, :, : x.shape[2]].tanh(),
    lambda x: torch.roll(x, (1, 2), (2, 3)),
    lambda x: x.expand(x.shape[0], -1, -1, -1).exp(),
    lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    lambda x: (x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)) * x,
    attention,
    pyramid,
    even,
]

PLANNED_ANEW: list[Callable[[Tensor], Tensor]] = [
    lambda x: x * x.shape[3],
    lambda x: x + torch.arange(x.shape[3]),
    lambda x: torch.roll(x, x.shape[3] % 2, 3),
]


def all_pairs(function: Callable[[Tensor], Tensor]) -> list[tuple[Shape, Shape]]:
    """The pairs of sizes of which the plan for one becomes that for the other."""
    model = ai3.swap_backend(Function(function))
    plans = {shape: plan for shape in SIZES if (plan := compiled(model, shape)) is not None}
    return [
        (first, other)
        for first, other in itertools.permutations(SIZES, 2)
        if first in plans
        and plans[first].resizable is not None
        and resizes(model, plans[first], other)
    ]


@pytest.mark.parametrize("function", FOLLOWED)
def test_plans_for_other_sizes_are_as_from_the_start(function: Callable[[Tensor], Tensor]) -> None:
    found = all_pairs(function)
    assert ((1, 4, 8, 12), (1, 4, 12, 12)) in found
    assert ((2, 4, 8, 12), (3, 4, 12, 8)) in found
    # Where an extent is 1, other arrays are broadcast, and change nothing.
    assert not any((1 in a[2:]) != (1 in b[2:]) for a, b in found)


@pytest.mark.parametrize("function", PLANNED_ANEW)
def test_what_sizes_are_in_is_planned_anew(function: Callable[[Tensor], Tensor]) -> None:
    assert all(a[3] % 2 == b[3] % 2 for a, b in all_pairs(function))


def test_padding_that_comes_and_goes_is_planned_anew() -> None:
    def is_padded(shape: Shape) -> bool:
        return any(extent % 2 for extent in shape[2:])

    found = all_pairs(even)
    assert found
    assert all(is_padded(a) == is_padded(b) for a, b in found)
    assert {is_padded(a) for a, _ in found} == {False, True}


@pytest.mark.parametrize("function", [*FOLLOWED, *PLANNED_ANEW, lambda x: shuffled(x, 2)])
def test_every_size_agrees_with_torch_in_any_order(function: Callable[[Tensor], Tensor]) -> None:
    net = Function(function).eval()
    model = ai3.swap_backend(net)
    for shape in [*SIZES, *reversed(SIZES)]:
        x = torch.randn(shape)
        try:
            with torch.no_grad():
                expected = net(x)
        except RuntimeError:
            continue
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [attention, pyramid, even])
def test_plans_in_bfloat16_are_as_from_the_start(function: Callable[[Tensor], Tensor]) -> None:
    model = ai3.swap_backend(Function(function), precision="bfloat16")
    first = compiled(model, (1, 4, 8, 12))
    assert first is not None
    assert resizes(model, first, (1, 4, 12, 12))


def test_what_takes_much_memory_is_planned_anew() -> None:
    model = ai3.swap_backend(Function(torch.tanh))
    first = compiled(model, (1, 4, 8, 8))
    assert first is not None and first.resizable is not None
    for extent, expected in ((256, True), (1024, False)):
        executor = first.resizable.executor([_core.Spec("float32", (1, 4, extent, extent))])
        assert (executor is not None) == expected


def test_a_size_that_does_not_fit_is_told() -> None:
    model = ai3.swap_backend(Function(lambda x: x.view(x.shape[0], 8, 2, -1).mean(2)).eval())
    model(torch.randn(1, 4, 4, 6))
    with pytest.raises(ValueError, match=r"reshape|view"):
        model(torch.randn(1, 4, 5, 7))


def test_an_algorithm_that_refuses_a_size_is_told() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"), nn.ReLU())
    model = ai3.swap_backend(net)
    model(torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match="padding"):
        model(torch.randn(1, 3, 2, 2))


NETWORKS = {
    **{name: size for name, _, size in networks.TORCHVISION.values()},
    "mobilenet_v3_small": 64,
}
FIXED = ("vit_b_16", "maxvit_t", "inception_v3")
"""Networks that take few sizes."""
QUICK = ("mobilenet_v3_small", "resnet18", "squeezenet1_1")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough)
        for name in NETWORKS
        if name not in FIXED
    ],
)
def test_networks_are_as_from_the_start(name: str) -> None:
    module = networks.from_torchvision(name).eval()
    networks.randomize(module, (1, 3, NETWORKS[name], NETWORKS[name]))
    model = ai3.swap_backend(module)
    height = max(NETWORKS[name], 80)
    first = compiled(model, (1, 3, height, 96))
    assert first is not None
    if first.resizable is None:
        assert name.startswith(("shufflenet", "swin"))  # shuffles, and masks made of sizes
        return
    widths = [64, 80, 97, 100, 129, 160, 190, 33, 224]
    found = [width for width in widths if resizes(model, first, (1, 3, height, width))]
    assert len(found) >= 3
    resizes(model, first, (1, 3, height + 9, 111))
    assert not resizes(model, first, (2, 3, height, 96))
