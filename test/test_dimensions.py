"""Convolution and pooling of one and three dimensions, and of weights that are computed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3

from .compare import Calls, converted

SIZES = {1: (17,), 2: (14, 11), 3: (7, 9, 8)}
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1},
    "strided groups": {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    "apart": {"kernel_size": 2, "stride": 2, "groups": 4},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4},
    "wide steps": {"kernel_size": 2, "stride": 3, "bias": False},
    "one": {"kernel_size": 1},
}
FORWARD: dict[str, dict[str, Any]] = {
    "same": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "added": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "sparse": {"kernel_size": 3, "stride": 3, "dilation": 2, "output_padding": 1},
}
BOXES: dict[str, dict[str, Any]] = {
    "time": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
    "space": {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
    "even": {"kernel_size": (2, 3, 4), "padding": "same"},
}
both_ways = pytest.mark.parametrize("tracing", ["fx", "export"])


def module(name: str, dims: int, *arguments: Any, **named: Any) -> nn.Module:
    made: nn.Module = getattr(nn, f"{name}{dims}d")(*arguments, **named)
    return made.eval()


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("case", [*CONVOLUTIONS, *FORWARD])
def test_convolution(case: str, dims: int, tracing: str) -> None:
    net = module("Conv", dims, 4, 8, **{**CONVOLUTIONS, **FORWARD}[case])
    converted(net, torch.randn(2, 4, *SIZES[dims]), tracing)


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("case", [*CONVOLUTIONS, *TRANSPOSED])
def test_transposed_convolution(case: str, dims: int, tracing: str) -> None:
    net = module("ConvTranspose", dims, 4, 8, **{**CONVOLUTIONS, **TRANSPOSED}[case])
    converted(net, torch.randn(2, 4, *SIZES[dims]), tracing)


@both_ways
@pytest.mark.parametrize("case", BOXES)
def test_boxes(case: str, tracing: str) -> None:
    converted(module("Conv", 3, 4, 8, **BOXES[case]), torch.randn(2, 4, 7, 9, 8), tracing)


@pytest.mark.parametrize("dims", [1, 3])
def test_a_single_sample(dims: int) -> None:
    net = nn.Sequential(
        module("Conv", dims, 4, 8, 3), nn.ReLU(), module("ConvTranspose", dims, 8, 4, 2, stride=2)
    )
    converted(net, torch.randn(4, *SIZES[dims]), "fx")


POOLING: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "max": ("MaxPool", (3, 2, 1), {}),
    "max up": ("MaxPool", (2,), {"ceil_mode": True}),
    "max dilated": ("MaxPool", (2, 1), {"dilation": 2}),
    "mean": ("AvgPool", (3, 2, 1), {}),
    "mean up": ("AvgPool", (3, 2, 1), {"ceil_mode": True}),
    "mean inside": ("AvgPool", (3, 2, 1), {"count_include_pad": False, "ceil_mode": True}),
    "adaptive mean": ("AdaptiveAvgPool", (3,), {}),
    "adaptive max": ("AdaptiveMaxPool", (4,), {}),
    "adaptive max of all": ("AdaptiveMaxPool", (1,), {}),
    "root of squares": ("LPPool", (2, 3, 2), {}),
}


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("case", POOLING)
def test_pooling(case: str, dims: int, tracing: str) -> None:
    kind, arguments, named = POOLING[case]
    converted(module(kind, dims, *arguments, **named), torch.randn(2, 3, *SIZES[dims]), tracing)


@both_ways
@pytest.mark.parametrize(
    "net",
    [
        nn.AvgPool3d(3, 2, 1, divisor_override=5),
        nn.AdaptiveAvgPool3d((None, 1, 2)),
        nn.AdaptiveMaxPool2d((4, None)),
        nn.MaxPool3d((1, 2, 2), dilation=(2, 1, 1)),
        nn.LPPool2d(1.5, (3, 2)),
    ],
    ids=str,
)
def test_pooling_by_different_numbers(net: nn.Module, tracing: str) -> None:
    size = SIZES[2 if "2d" in type(net).__name__ else 3]
    converted(net, torch.randn(2, 3, *size).abs(), tracing)


def test_maxima_keep_nan() -> None:
    x = torch.randn(1, 2, 9)
    x[0, 1, 4] = float("nan")
    converted(nn.AdaptiveMaxPool1d(3), x, "fx")
    converted(nn.MaxPool1d(3), x, "fx")


WITH_INDICES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "whole": ("MaxPool", (2,), {}),
    "padded": ("MaxPool", (3, 2, 1), {}),
    "up": ("MaxPool", (3, 2, 1), {"ceil_mode": True}),
    "dilated": ("MaxPool", (3, 1, 1, 2), {}),
    "adaptive": ("AdaptiveMaxPool", (4,), {}),
    "adaptive of all": ("AdaptiveMaxPool", (1,), {}),
}


@pytest.mark.thinned(4)
@both_ways
@pytest.mark.parametrize("values", ["distinct", "equal", "infinite", "NaN"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("case", WITH_INDICES)
def test_places_of_maxima(case: str, dims: int, values: str, tracing: str) -> None:
    kind, arguments, named = WITH_INDICES[case]
    net = module(kind, dims, *arguments, **named, return_indices=True)
    x = torch.randn(2, 3, *SIZES[dims])
    if values == "equal":
        x = x.round()
    if values == "infinite":
        x[:, 1] = float("-inf")
    if values == "NaN":
        x[x > 1] = float("nan")
    model = converted(net, x, tracing)
    for n in (1, 3):
        other = torch.randn(n, 3, *SIZES[dims])
        assert torch.equal(model(other)[1], net(other)[1])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_places_in_one_sample(dims: int) -> None:
    net = module("MaxPool", dims, 3, 2, 1, return_indices=True)
    converted(net, torch.randn(3, *SIZES[dims]), "fx")
    adaptive = module("AdaptiveMaxPool", dims, 2, return_indices=True)
    converted(adaptive, torch.randn(3, *SIZES[dims]), "fx")


class Unpooled(nn.Module):
    def __init__(self, dims: int, *arguments: Any, sized: bool = False) -> None:
        super().__init__()
        self.pool = module("MaxPool", dims, *arguments, return_indices=True)
        self.unpool = module("MaxUnpool", dims, *arguments)
        self.sized = sized

    def forward(self, x: Tensor) -> Any:
        y, indices = self.pool(x)
        return self.unpool(y * 2, indices, *([x.size()] if self.sized else []))


@pytest.mark.thinned(2)
@both_ways
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("arguments", [(2,), (3, 3), (3, 2, 1)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unpooling(dims: int, arguments: Any, sized: bool, tracing: str) -> None:
    net = Unpooled(dims, *arguments, sized=sized)
    # Else windows divide the extents. Of those that overlap the elements are the same.
    size = SIZES[dims] if sized else (11 if len(arguments) == 3 else 12,) * dims
    model = converted(net, torch.randn(2, 3, *size), tracing)
    x = torch.randn(1, 3, *size)
    assert torch.equal(model(x), net(x))


def test_unpooling_of_one_sample() -> None:
    converted(Unpooled(2, 2), torch.randn(3, 8, 6), "fx")


@both_ways
def test_the_last_of_several_is_what_unpooling_gives(tracing: str) -> None:
    places = torch.tensor([[[[3, 3], [0, 3]]]])
    net = Calls(lambda x: F.max_unpool2d(x, places.expand(x.shape), 2)).eval()
    converted(net, torch.randn(2, 3, 2, 2), tracing)


class SegNet(nn.Module):
    """Badrinarayanan et al., arXiv 1511.00561, with two stages."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 8, 12]

        def stage(a: int, b: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())

        self.encoders = nn.ModuleList(map(stage, widths, widths[1:]))
        self.decoders = nn.ModuleList(map(stage, widths[:0:-1], widths[-2::-1]))
        self.pool, self.unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        met = []
        for encode in self.encoders:
            x = encode(x)
            size = x.size()
            x, indices = self.pool(x)
            met.append((indices, size))
        for decode in self.decoders:
            indices, size = met.pop()
            x = decode(self.unpool(x, indices, output_size=size))
        return x


@both_ways
def test_segnet(tracing: str) -> None:
    net = SegNet().eval()
    model = converted(net, torch.randn(2, 3, 21, 18), tracing)
    with torch.no_grad():
        for n in (1, 3):
            x = torch.randn(n, 3, 21, 18)
            torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)
    swapped = ai3.swap_backend(net, {"maxpool2d": "direct"}, sample_input_shape=(1, 3, 21, 18))
    torch.testing.assert_close(swapped(x), model(x))


class Residual(nn.Module):
    """Convolutions, their sum, and factors for each channel."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv = module("Conv", dims, 4, 4, 3, padding=1)
        self.norm = module("BatchNorm", dims, 4)
        self.norm.running_mean.data.normal_()
        self.norm.running_var.data.uniform_(0.5, 2)
        self.one = module("Conv", dims, 4, 4, 1)
        self.pool = module("AdaptiveAvgPool", dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        y = F.relu(y + self.one(y))
        return self.conv(y * torch.sigmoid(self.one(self.pool(y)))) * 2 + 1


@both_ways
@pytest.mark.parametrize("dims", [1, 3])
def test_sums_and_factors(dims: int, tracing: str) -> None:
    converted(Residual(dims).eval(), torch.randn(2, 4, *SIZES[dims]), tracing)


@pytest.mark.parametrize("dims", [1, 3])
def test_layers_one_after_the_other_stay_images(dims: int) -> None:
    graph = ai3.swap_backend(Residual(dims).eval()).graph_for(torch.randn(2, 4, *SIZES[dims]))
    ops = [node.op for node in graph.nodes]
    # The norm is in the convolution's weights, and nothing is turned but input and output.
    assert "batch_norm" not in ops
    assert ops.count("permute") == (2 if dims == 3 else 0)


@pytest.mark.parametrize("dims", [1, 3])
def test_algorithms_by_their_own_names(dims: int) -> None:
    net = nn.Sequential(module("Conv", dims, 4, 4, 3), module("ConvTranspose", dims, 4, 4, 3))
    x = torch.randn(1, 4, *SIZES[dims])
    algos = {f"conv{dims}d": ["smm"], f"conv_transpose{dims}d": {"1": "gemm"}}
    model = ai3.swap_backend(net, algos)
    ran = {row.op: row.algorithm for row in model.profile(x) if row.op.startswith("conv")}
    assert ran == {"conv2d": "smm", "conv_transpose2d": "gemm"}
    torch.testing.assert_close(model(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ai3.errors.SelectionError, match="algorithm of conv1d"):
        ai3.swap_backend(net, {"conv1d": "sm"})


class Computed(nn.Module):
    """A convolution whose weight and bias the network computes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.attributes = attributes
        self.groups = attributes.get("groups", 1)
        self.weight = nn.Linear(4, 8 * 4 // self.groups * 9)
        self.bias = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((0, 2, 3))
        weight = self.weight(pooled).view(8, 4 // self.groups, 3, 3)
        return F.conv2d(x, weight, self.bias(pooled), **self.attributes)


class ForEachSample(nn.Module):
    """Yang et al., "CondConv", arXiv 1904.04971: samples are groups of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(4, 8 * 4 * 9)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = self.weight(x.mean((2, 3))).view(n * 8, 4, 3, 3)
        y = F.conv2d(x.reshape(1, n * c, h, w), weight, None, 1, 1, 1, n)
        return y.view(n, 8, h, w)


@both_ways
@pytest.mark.parametrize(
    "make",
    [
        Computed,
        lambda: Computed(stride=2, padding=1, groups=2),
        lambda: Computed(padding=(2, 1), dilation=(2, 1), groups=4),
        lambda: Computed(padding="same"),
        ForEachSample,
    ],
)
def test_computed_weights(make: Callable[[], nn.Module], tracing: str) -> None:
    converted(make().eval(), torch.randn(3, 4, 9, 7), tracing)
