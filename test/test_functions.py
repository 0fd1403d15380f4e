"""Functions of single elements inside networks: every row of the lowerings, by both tracings."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ai3
from ai3.torch.lowerings import pointwise

from .compare import converted

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "clamp": (-0.5, 0.7),
    "clip": (-0.5, 0.7),
    "clamp_min": (-0.5,),
    "clamp_max": (0.5,),
    "masked_fill": (lambda x: x > 0, 2.5),
    "addcmul": (lambda x: x * 2, lambda x: x + 1),
    "addcdiv": (lambda x: x * 2, lambda x: x.abs() + 1),
    "lerp": (lambda x: x + 2, 0.3),
    "rsub": (1.5,),
    "celu": (0.7,),
    "softplus": (2.0, 1.0),
    "hardtanh": (-0.3, 0.8),
    "threshold": (0.2, 1.5),
    "nan_to_num": (1.0,),
    "logit": (0.1,),
    "where": (lambda x: x * 2, lambda x: x - 1),
    "leaky_relu": (0.2,),
    "elu": (0.7,),
    "rrelu": (0.1, 0.4),
}
"""The arguments after the first; a function of the first one is called with it."""
INTEGER = {name for name in pointwise.FUNCTIONS if name.startswith("bitwise")}
NAMES = sorted({*pointwise.FUNCTIONS, *pointwise.FORMULAS, *pointwise.ALIASES})


def callables(name: str) -> dict[str, Callable[..., Any]]:
    """The function in every place in which torch has it."""
    found: dict[str, Callable[..., Any]] = {}
    if hasattr(torch, name):
        found["torch"] = getattr(torch, name)
    if hasattr(F, name):
        found["functional"] = getattr(F, name)
    if hasattr(torch.Tensor, name) and name != "where":  # whose operands are in another order
        found["method"] = lambda x, *rest: getattr(x, name)(*rest)
    return found


class Calls(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.call = call
        self.linear = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.call(self.linear(x))


def check(call: Callable[[torch.Tensor], Any], tracing: str) -> None:
    converted(Calls(call).eval(), torch.randn(3, 4, 5), tracing)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", NAMES)
def test_every_function(name: str, tracing: str) -> None:
    count = pointwise.FUNCTIONS.get(pointwise.ALIASES.get(name, name), 1)
    arguments = ARGUMENTS.get(name, (lambda x: x.roll(1, 0) + 0.1,))
    takes = count > 1 or name in ARGUMENTS or "other" in pointwise.FORMULAS.get(name, "")
    takes = takes or name in ("heaviside", "float_power")
    # Torch has gelu_tanh as gelu with another argument.
    assert callables(name) or name == "gelu_tanh"
    for call in callables(name).values():

        def with_arguments(x: torch.Tensor, call: Any = call) -> Any:
            first = x > 0 if name == "where" else (x * 4).int() if name in INTEGER else x
            given = [a(x) if callable(a) else a for a in arguments] if takes else []
            if name in INTEGER:
                given = [(g * 2).abs().int() for g in given]
            return call(first, *given)

        check(with_arguments, tracing)


OPERATORS: dict[str, Callable[[Any], Any]] = {
    "pow": lambda x: (x.abs() + 0.1) ** 1.7,
    "pow by squaring": lambda x: x**2,
    "rpow": lambda x: 2**x,
    "square root": lambda x: (x.abs() + 0.1) ** 0.5,
    "cube": lambda x: x**3,
    "mod": lambda x: x % 0.7,
    "floor division": lambda x: x // 0.7,
    "comparisons": lambda x: ((x > 0) & (x <= 1) | (x < -1) ^ (x == 0)).float(),
    "invert": lambda x: ~(x > 0),
    "abs": lambda x: abs(x),
    "reflected": lambda x: 1 / (2 - x.abs().clamp(max=1)),
    "where of numbers": lambda x: torch.where(x > 0, 1.5, -1.0),
    "integers": lambda x: (x * 10).long() % 3 + 1,
    "integers and reals": lambda x: (x > 0).long() + 1.5,
    "mask": lambda x: x * (x > 0),
    "to the input's type": lambda x: (x > 0).to(x.dtype),
    "type of another": lambda x: (x > 0).type_as(x),
    "method where": lambda x: x.where(x > 0, x * 2),
    "rounding": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "rounding to zero": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "round to decimals": lambda x: torch.round(x, decimals=1),
    "glu": lambda x: F.glu(x[..., :4], -1),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4])),
    "prelu of one": lambda x: F.prelu(x, torch.tensor([0.1])),
    "in place": lambda x: x.mul_(2).exp_().clamp_(max=3.0),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, tracing: str) -> None:
    check(OPERATORS[name], tracing)


REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "max": lambda x: x.max(),
    "max of a dimension": lambda x: torch.max(x, 1)[0],
    "max with places": lambda x: [x.max(dim=-1, keepdim=True)[i] for i in range(2)],
    "max values": lambda x: x.max(dim=0).values,
    "max of two": lambda x: torch.max(x, x.roll(1, 0)),
    "min": lambda x: torch.min(x),
    "min places": lambda x: x.min(2).indices,
    "amin": lambda x: x.amin((0, 2)),
    "aminmax": lambda x: torch.aminmax(x, dim=1).min,
    "argmax": lambda x: x.argmax(),
    "argmax of a dimension": lambda x: x.argmax(1, keepdim=True),
    "argmin": lambda x: torch.argmin(x, dim=-1),
    "prod": lambda x: x.prod(),
    "prod of a dimension": lambda x: torch.prod(x, 1, keepdim=True),
    "var": lambda x: x.var(),
    "var of dimensions": lambda x: torch.var(x, (0, 2), keepdim=True),
    "biased var": lambda x: x.var(1, unbiased=False),
    "var with a correction": lambda x: torch.var(x, 1, correction=2),
    "std": lambda x: x.std(-1),
    "var_mean": lambda x: torch.var_mean(x, 1, unbiased=False)[1],
    "std_mean": lambda x: torch.std_mean(x, dim=1)[0],
    "norm": lambda x: x.norm(),
    "norm of a dimension": lambda x: torch.norm(x, dim=1, keepdim=True),
    "vector norms": lambda x: [torch.linalg.vector_norm(x, p, 1) for p in (1, 2, 3, 0.5)],
    "largest norm": lambda x: torch.linalg.vector_norm(x, float("inf"), -1),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "logsumexp of several": lambda x: torch.logsumexp(x, (0, 2), keepdim=True),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "softmin": lambda x: F.softmin(x, dim=1),
    "any": lambda x: (x > 1).any(),
    "any of a dimension": lambda x: (x > 0.5).any(1, keepdim=True),
    "all": lambda x: torch.all(x > -1, dim=2),
    "count_nonzero": lambda x: torch.count_nonzero(x > 0, 1),
    "sum of bool": lambda x: (x > 0).sum(1),
    "mean of bool": lambda x: (x > 0).float().mean(),
    "sum of integers": lambda x: (x * 10).long().sum(),
    "max of integers": lambda x: (x * 10).long().amax(1),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum of bool": lambda x: (x > 0).cumsum(-1),
    "cumprod": lambda x: torch.cumprod(x, 0),
    "sort": lambda x: [x.sort(dim=1, descending=True)[i] for i in range(2)],
    "argsort": lambda x: x.argsort(-1),
    "topk": lambda x: [torch.topk(x, 2, dim=1)[i] for i in range(2)],
    "smallest k": lambda x: x.topk(3, largest=False)[0],
}


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, tracing: str) -> None:
    check(REDUCTIONS[name], tracing)


INDEX = torch.tensor([2, 0, -1])
TABLE = torch.randn(9, 3)
MOVEMENT: dict[str, Callable[[Any], Any]] = {
    "flip": lambda x: x.flip(0, -1),
    "flip of a list": lambda x: torch.flip(x, [1]),
    "fliplr": lambda x: torch.fliplr(x),
    "index by a list": lambda x: x[:, [2, 0, 0]],
    "index by a constant": lambda x: x[..., INDEX],
    "index by a mask": lambda x: x[:, torch.tensor([True, False, True, True])],
    "index by computed integers": lambda x: x[:, (x[0, :3, 0] > 0).long()],
    "index_select": lambda x: torch.index_select(x, 1, torch.tensor([0, 3])),
    "gather": lambda x: torch.gather(x, 1, x.argsort(1)[:, :2]),
    "gather of the last": lambda x: x.gather(-1, x.argmax(-1, keepdim=True)),
    "embedding": lambda x: F.embedding((x.abs() * 2).long().clamp(max=8), TABLE),
    "repeat": lambda x: x.repeat(2, 1, 1, 3),
    "tile": lambda x: x.tile(3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "repeat_interleave of all": lambda x: torch.repeat_interleave(x, 2),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "columns": lambda x: F.unfold(x[:, None], (2, 3), padding=1, dilation=(2, 1), stride=(1, 2)),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x[None, :, :, :4].transpose(1, 2), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, None, :, :4], 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x[..., None], 2),
    "tril": lambda x: x.tril(),
    "triu": lambda x: torch.triu(x, diagonal=1),
    "one_hot": lambda x: F.one_hot((x > 0).long(), 3),
    "arange": lambda x: x + torch.arange(x.shape[-1]),
    "arange of reals": lambda x: x + torch.arange(x.shape[-1], dtype=torch.float32) / x.shape[1],
    "linspace": lambda x: x + torch.linspace(-1, 1, x.shape[-1]),
    "eye": lambda x: x @ torch.eye(x.shape[-1]),
    "full": lambda x: x + torch.full((x.shape[1], 1), 0.5),
    "zeros_like": lambda x: torch.cat([x, torch.zeros_like(x)]),
    "new_ones": lambda x: x.new_ones(x.shape[0], 1, 1) + x,
    "meshgrid": lambda x: torch.stack(
        torch.meshgrid(torch.arange(x.shape[0]), torch.arange(x.shape[1]), indexing="ij")
    ),
    "meshgrid of x and y": lambda x: torch.meshgrid(x[0, 0], x[0, :, 0], indexing="xy")[1],
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", MOVEMENT)
def test_movement(name: str, tracing: str) -> None:
    check(MOVEMENT[name], tracing)


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.linear = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.linear(self.embedding(ids)).mean(1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_integer_inputs(dtype: torch.dtype) -> None:
    net, ids = Embeds().eval(), torch.randint(0, 7, (2, 5)).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(ai3.swap_backend(net)(ids), net(ids))


def test_an_index_out_of_range_gives_nan() -> None:
    ids = torch.tensor([[0, 7], [1, -8]])
    assert ai3.swap_backend(Embeds().eval())(ids).isnan().all()


NORMS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "batch norm of rows": (nn.BatchNorm1d(5), (3, 5)),
    "batch norm 1d": (nn.BatchNorm1d(5), (3, 5, 4)),
    "batch norm 3d": (nn.BatchNorm3d(2), (3, 2, 4, 3, 2)),
    "instance norm 1d": (nn.InstanceNorm1d(5), (3, 5, 8)),
    "instance norm 2d": (nn.InstanceNorm2d(3, affine=True), (2, 3, 5, 6)),
    "instance norm 3d": (nn.InstanceNorm3d(2), (1, 2, 3, 4, 5)),
    "one sample": (nn.InstanceNorm2d(3), (3, 5, 6)),
    "learned statistics": (nn.InstanceNorm2d(3, track_running_stats=True), (2, 3, 5, 6)),
    "rms norm": (nn.RMSNorm(6), (2, 3, 6)),
    "rms norm of two": (nn.RMSNorm((3, 6), eps=1e-3), (2, 3, 6)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), (2, 6)),
}


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str, tracing: str) -> None:
    module, shape = NORMS[name]
    for buffer in module.buffers():
        if buffer.dtype.is_floating_point:
            buffer.uniform_(0.5, 2)
    for parameter in module.parameters():
        parameter.data.uniform_(-1, 1)
    converted(nn.Sequential(nn.Tanh(), module).eval(), torch.randn(shape), tracing)


@pytest.mark.parametrize("name", sorted(pointwise.ACTIVATIONS.values()))
def test_modules(name: str) -> None:
    module = nn.Threshold(0.1, 2.0) if name == "Threshold" else getattr(nn, name)()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), module).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ai3.swap_backend(net)(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_chain_is_one_step() -> None:
    net = Calls(lambda x: torch.log(x.abs() + 1e-3).exp() * x.sigmoid() - 0.5).eval()
    model = ai3.swap_backend(net)
    x = torch.randn(3, 4, 5)
    ops = [node.op for node in model.graph_for(x).nodes if node.op != "constant"]
    assert ops == ["linear", "pointwise"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


def test_what_is_read_elsewhere_or_broadcast_is_computed_once() -> None:
    def read_twice(x: torch.Tensor) -> torch.Tensor:
        scale = torch.exp(x[:, :1])
        return x * scale + scale

    net = Calls(read_twice).eval()
    model = ai3.swap_backend(net)
    x = torch.randn(3, 4, 5)
    programs = [
        node.attributes["program"] for node in model.graph_for(x).nodes if node.op == "pointwise"
    ]
    assert sum("exp(" in program for program in programs) == 1
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x))


def test_saved_and_in_float64(tmp_path: Any) -> None:
    net = Calls(lambda x: torch.where(x > 0, F.mish(x), x.float() * 0.5)).eval()
    x = torch.randn(3, 4, 5)
    model = ai3.swap_backend(net)
    model.save(tmp_path / "model.ai3")
    assert torch.equal(ai3.load(tmp_path / "model.ai3")(x), model(x))
    wide = ai3.swap_backend(net, dtype=torch.float64)(x.double())
    assert wide.dtype == torch.float64
    with torch.no_grad():
        torch.testing.assert_close(wide, net.double()(x.double()), rtol=1e-5, atol=1e-6)


def test_images_of_integers_stay_dense() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)

        def forward(self, x: torch.Tensor) -> Any:
            y = self.first(x)
            mask = torch.cat([y > 0, y < -0.1], 1)[:, 4:20].permute(0, 1, 3, 2)
            return self.second(y * mask.transpose(2, 3)), (y * 4).int().permute(0, 2, 3, 1)

    net, x = Masked().eval(), torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(ai3.swap_backend(net)(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize(
    "equation",
    [
        "bij,bjk->bik",
        "bij,bkj->bik",
        "bij,bkj->kib",
        "bij,bij->b",
        "bij,bij->bij",
        "bij,k->bijk",
        "bij,bkl",
        "bij,bkl->bk",
        "bij->ji",
        "bij->",
        "bij,bkj,bkl->bil",
        "byhc,hkc->byhk",
        "bchw,bkhw->bck",
        "...ij,...kj->...ik",
        "...ij,...jk->...ki",
        "...ij,kj->...ik",
    ],
)
def test_einsum(equation: str, tracing: str) -> None:
    extents = {"b": 3, "i": 4, "j": 5, "k": 2, "l": 6, "y": 2, "h": 3, "w": 2, "c": 5}
    terms = equation.partition("->")[0].split(",")
    shapes = [[extents[c] for c in term.replace("...", "b")] for term in terms]

    operands = [torch.randn(shape) for shape in shapes]

    def product(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum(equation, *(operand * x.mean() for operand in operands))

    converted(Calls(product).eval(), torch.randn(2, 5), tracing)
