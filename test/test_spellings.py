"""Every function and module of the tables, in every spelling that torch has, by both tracings.

Functions of single elements are in test_functions.py.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
import runners.vision  # noqa: F401  so that what the tables have of torchvision can be imported
from ai3.ops import OPERATIONS, VANISHING
from ai3.torch import lowerings
from ai3.torch.capture import _MODULES, capture
from ai3.torch.export import ExportTrace
from ai3.torch.lowerings import pointwise
from ai3.torch.trace import Trace, resolve

Arguments = Callable[[Tensor], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """The arguments, of an input of a shape, and what is made of what a function gives."""

    arguments: Arguments
    shape: tuple[int, ...] = (3, 4, 5)
    result: Callable[[Tensor, Any], Any] = lambda x, result: result


def first(x: Tensor, result: Any) -> Any:
    return result[0]


def number(x: Tensor, result: Any) -> Any:
    return x * result


ROW, IMAGE, VOLUME = (2, 4, 9), (2, 4, 8, 6), (2, 4, 5, 6, 4)
IMAGES = {1: ROW, 2: IMAGE, 3: VOLUME}
INDEX = torch.tensor([2, 0])
TABLE, WEIGHT, BIAS = torch.randn(9, 4), torch.rand(6, 5), torch.rand(6)
FACTOR, SHIFT, MEAN, VAR = (torch.rand(4) + 0.5 for _ in range(4))
GRID = torch.rand(2, 3, 5, 2) * 2.4 - 1.2
KERNELS = {d: torch.randn(6, 4, *[3] * d) for d in (1, 2, 3)}
TRANSPOSED = {d: torch.randn(4, 6, *[3] * d) for d in (1, 2, 3)}


def recurrent(kind: str) -> list[Tensor]:
    """Weights for an input of 5 and a state of 6."""
    return [p.detach() for p in getattr(nn, kind)(5, 6).parameters()]


STATE = torch.randn(1, 3, 6)
LSTM, GRU, RNN = map(recurrent, ("LSTM", "GRU", "RNN"))
OPTIONS = (True, 1, 0.0, False, False, True)
FIVE, FOUR, TWO = torch.rand(5), torch.rand(4), torch.rand(2)


def alike(names: str, arguments: Arguments, *rest: Any) -> dict[str, Case]:
    return {name: Case(arguments, *rest) for name in names.split()}


CASES: dict[str, Case] = {
    # Parts, and tensors put together.
    **alike("cat concat concatenate stack", lambda x: ([x, x * 2], 1)),
    **alike("chunk split", lambda x: (x, 2, 1), (3, 4, 5), first),
    **alike("split_with_sizes", lambda x: (x, [1, 3], 1), (3, 4, 5), first),
    **alike("unbind", lambda x: (x, 1), (3, 4, 5), first),
    **alike("narrow", lambda x: (x, 1, 1, 2)),
    **alike("select", lambda x: (x, 1, 2)),
    **alike("slice", lambda x: (x, 1, 1, 3)),
    **alike("getitem", lambda x: (x, 1)),
    **alike("getattr", lambda x: (x, "mT")),
    # Shapes.
    **alike("flatten unsqueeze", lambda x: (x, 1)),
    **alike("squeeze", lambda x: (x[:, :1], 1)),
    **alike("unflatten", lambda x: (x, 1, (2, 2))),
    **alike("reshape view", lambda x: (x, [4, 15])),
    **alike("reshape_as view_as", lambda x: (x, torch.zeros(5, 12))),
    **alike("permute", lambda x: (x, [2, 0, 1])),
    **alike("transpose swapaxes swapdims", lambda x: (x, 0, 1)),
    **alike("movedim moveaxis", lambda x: (x, 0, 2)),
    **alike("t numpy_T", lambda x: (x[0],)),
    **alike("mT", lambda x: (x,)),
    **alike("expand", lambda x: (x[:, :1], [3, 4, 5])),
    **alike("expand_as", lambda x: (x[:, :1], x)),
    **alike("size sym_size", lambda x: (x, 1), (3, 4, 5), number),
    **alike("dim ndimension numel nelement len", lambda x: (x,), (3, 4, 5), number),
    # The tensor itself, and other types.
    **alike("alias clone contiguous cpu detach lift_fresh_copy", lambda x: (x,)),
    **alike("bool byte double float int long", lambda x: (x.abs() * 3,)),
    **alike("to type", lambda x: (x, torch.float64)),
    **alike("type_as", lambda x: (x, x > 0)),
    **alike("dropout alpha_dropout", lambda x: (x, 0.5, False)),
    **alike("feature_dropout feature_alpha_dropout dropout2d", lambda x: (x, 0.5, False), IMAGE),
    **alike("dropout1d", lambda x: (x, 0.5, False), ROW),
    **alike("dropout3d", lambda x: (x, 0.5, False), VOLUME),
    **alike("stochastic_depth", lambda x: (x, 0.5, "batch", False)),
    # New ones.
    **alike("zeros_like ones_like", lambda x: (x,)),
    **alike("full_like", lambda x: (x, 2.5)),
    **alike("new_zeros new_ones", lambda x: (x, [2, 3])),
    **alike("new_full", lambda x: (x, [2, 3], 1.5)),
    **alike("meshgrid", lambda x: ([x[0, 0], x[0, :, 0]],)),
    **alike("one_hot", lambda x: ((x > 0).long(), 3)),
    # Python's operators.
    **alike("iadd isub imul itruediv truediv", lambda x: (x, 2.0)),
    **alike("subtract multiply true_divide", lambda x: (x, x.abs() + 1)),
    **alike("abs", lambda x: (x,)),
    **alike("pow ipow", lambda x: (x.abs(), 1.5)),
    **alike("mod floordiv ifloordiv eq ne lt le gt ge", lambda x: (x, x.roll(1, 0))),
    **alike("and or xor iand ior ixor", lambda x: ((x * 9).int(), (x * 5).int())),
    **alike("lshift rshift ilshift irshift", lambda x: ((x * 9).int(), 2)),
    **alike("invert", lambda x: (x > 0,)),
    # Elements at places.
    **alike("index", lambda x: (x, [None, INDEX])),
    **alike("index_select", lambda x: (x, 1, INDEX)),
    **alike("gather", lambda x: (x, 1, x.argsort(1)[:, :2])),
    **alike("take", lambda x: (x, INDEX)),
    **alike("take_along_dim", lambda x: (x, x[:, :, :1].argsort(1)[:, :2], 1)),
    **alike("index_add index_copy", lambda x: (x, 1, INDEX, x[:, :2] * 2)),
    **alike("index_fill", lambda x: (x, 1, INDEX, 2.0)),
    **alike("index_put", lambda x: (x, [INDEX, INDEX], x[0, :2] * 2)),
    **alike("index_reduce", lambda x: (x, 1, INDEX, x[:, :2] * 2, "prod")),
    **alike("put", lambda x: (x, INDEX, x[0, 0, :2] * 2)),
    **alike("scatter scatter_add", lambda x: (x, 1, x.argsort(1), x * 2)),
    **alike("scatter_reduce", lambda x: (x, 1, x.argsort(1), x * 2, "amax")),
    **alike("select_scatter", lambda x: (x, x[:, 0] * 2, 1, 2)),
    **alike("slice_scatter", lambda x: (x, x[:, :2] * 2, 1, 1, 3)),
    **alike("copy", lambda x: (x, x * 2)),
    **alike("fill", lambda x: (x, 2.0)),
    **alike("zero", lambda x: (x,)),
    "embedding": Case(lambda x: (TABLE, x.abs().long())),
    "torch.nn.functional.embedding": Case(lambda x: (x.abs().long(), TABLE)),
    # Order and repetition.
    **alike("flip", lambda x: (x, [1])),
    **alike("pad", lambda x: (x, (1, 2))),
    **alike("fliplr flipud tril triu", lambda x: (x,)),
    **alike("roll", lambda x: (x, 1, 1)),
    **alike("repeat tile", lambda x: (x, [2, 1, 3])),
    **alike("repeat_interleave", lambda x: (x, 2, 1)),
    **alike("sort argsort", lambda x: (x, 1)),
    **alike("topk", lambda x: (x, 2, 1)),
    **alike("pixel_shuffle channel_shuffle pixel_unshuffle", lambda x: (x, 2), IMAGE),
    "unfold": Case(lambda x: (x, 1, 2, 1)),
    "torch.nn.functional.unfold": Case(lambda x: (x, 2), IMAGE),
    "im2col": Case(lambda x: (x, [2, 2], [1, 1], [0, 0], [1, 1]), IMAGE),
    "fold": Case(lambda x: (x, (5, 6), 2), (2, 12, 20)),
    "col2im": Case(lambda x: (x, [5, 6], [2, 2], [1, 1], [0, 0], [1, 1]), (2, 12, 20)),
    # Reductions.
    **alike("sum mean prod amax amin argmax argmin max min", lambda x: (x, 1)),
    **alike("var std var_mean std_mean cumsum cumprod", lambda x: (x, 1)),
    **alike("logsumexp softmax log_softmax", lambda x: (x, 1)),
    **alike("softmin", lambda x: (x, 1)),
    **alike("any all count_nonzero", lambda x: (x > 0, 1)),
    **alike("aminmax norm", lambda x: (x,)),
    **alike("linalg_vector_norm", lambda x: (x, 3.0, [1])),
    **alike("normalize", lambda x: (x,)),
    # Products.
    **alike("matmul bmm", lambda x: (x, x.transpose(1, 2))),
    **alike("mm", lambda x: (x[0], x[1].t())),
    **alike("einsum", lambda x: ("bij,bkj->bik", x, x * 2)),
    **alike("linear", lambda x: (x, WEIGHT, BIAS)),
    **alike("scaled_dot_product_attention", lambda x: (x[None], x[None], x[None])),
    # Activations with parameters.
    **alike("glu", lambda x: (x, 1)),
    **alike("prelu", lambda x: (x, FOUR)),
    **alike("log_sigmoid", lambda x: (x,)),
    # Norms.
    "torch.nn.functional.batch_norm": Case(lambda x: (x, MEAN, VAR, FACTOR, SHIFT), IMAGE),
    "batch_norm": Case(lambda x: (x, FACTOR, SHIFT, MEAN, VAR, False, 0.1, 1e-5, False), IMAGE),
    "torch.nn.functional.instance_norm": Case(lambda x: (x, None, None, FACTOR, SHIFT), IMAGE),
    "instance_norm": Case(lambda x: (x, FACTOR, SHIFT, None, None, True, 0.1, 1e-5, False), IMAGE),
    "group_norm": Case(lambda x: (x, 2, FACTOR, SHIFT, 1e-5), IMAGE),
    "layer_norm": Case(lambda x: (x, [5], FIVE, FIVE, 1e-5)),
    "rms_norm": Case(lambda x: (x, [5], FIVE, 1e-5)),
    "local_response_norm": Case(lambda x: (x, 3), IMAGE),
    # Images at other sizes, and read elsewhere.
    **alike("interpolate upsample", lambda x: (x, (5, 7)), IMAGE),
    **{
        f"{kind}{d}d": Case(lambda x, d=d: (x, [5, 7, 3][:d]), IMAGES[d])  # type: ignore[misc]
        for kind in ("upsample_nearest", "_upsample_nearest_exact")
        for d in (1, 2, 3)
    },
    **{
        name: Case(lambda x, d=d: (x, [5, 7, 3][:d], False), IMAGES[d])  # type: ignore[misc]
        for name, d in (
            *(("upsample_linear1d", 1), ("upsample_bilinear2d", 2), ("upsample_bicubic2d", 2)),
            *(("upsample_trilinear3d", 3), ("_upsample_bilinear2d_aa", 2)),
            ("_upsample_bicubic2d_aa", 2),
        )
    },
    "grid_sample": Case(lambda x: (x, GRID, "bilinear", "zeros", False), IMAGE),
    "grid_sampler": Case(lambda x: (x, GRID, 0, 0, False), IMAGE),
    **alike("affine_grid affine_grid_generator", lambda x: (x, [2, 1, 3, 4], False), (2, 2, 3)),
    # Convolution and pooling.
    **{
        f"conv{d}d": Case(lambda x, d=d: (x, KERNELS[d], BIAS), IMAGES[d])  # type: ignore[misc]
        for d in (1, 2, 3)
    },
    **{
        f"conv_transpose{d}d": Case(
            lambda x, d=d: (x, TRANSPOSED[d], BIAS),  # type: ignore[misc]
            IMAGES[d],
        )
        for d in (1, 2, 3)
    },
    **{
        f"{name}{d}d{rest}": Case(lambda x, d=d: (x, [2] * d), IMAGES[d])  # type: ignore[misc]
        for name in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool")
        for d in (1, 2, 3)
        for rest in ("", "_with_indices")
    },
    **{
        f"lp_pool{d}d": Case(lambda x, d=d: (x.abs(), 2.0, 2), IMAGES[d])  # type: ignore[misc]
        for d in (1, 2, 3)
    },
    "torch.nn.functional.max_unpool1d": Case(
        lambda x: (x, torch.arange(72).view(2, 4, 9) % 9, 2), ROW
    ),
    "torch.nn.functional.max_unpool2d": Case(
        lambda x: (x, torch.arange(384).view(IMAGE) % 48, 2), IMAGE
    ),
    "torch.nn.functional.max_unpool3d": Case(
        lambda x: (x, torch.arange(960).view(VOLUME) % 120, 2), VOLUME
    ),
    "max_unpool2d": Case(lambda x: (x, torch.arange(384).view(IMAGE) % 48, [16, 12]), IMAGE),
    "max_unpool3d": Case(
        lambda x: (x, torch.arange(960).view(VOLUME) % 120, [10, 12, 8], [2] * 3, [0] * 3), VOLUME
    ),
    # Recurrent layers.
    "gru": Case(lambda x: (x, STATE, GRU, *OPTIONS)),
    "lstm": Case(lambda x: (x, [STATE, STATE * 2], LSTM, *OPTIONS)),
    **alike("rnn_tanh rnn_relu", lambda x: (x, STATE, RNN, *OPTIONS)),
    "gru_cell": Case(lambda x: (x[:, 0], STATE[0], *GRU)),
    "lstm_cell": Case(lambda x: (x[:, 0], [STATE[0], STATE[0] * 2], *LSTM)),
    **alike("rnn_tanh_cell rnn_relu_cell", lambda x: (x[:, 0], STATE[0], *RNN)),
}
ELSEWHERE = {
    "_assert": "gives nothing",
    "_assert_tensor_metadata": "gives nothing",
    "empty_like": "what it holds is not said",
    "new_empty": "what it holds is not said",
    "requires_grad": "changes no numbers",
    "setitem": "a statement: test_assignment.py",
    "shifted_window_attention": "test_attention.py",
}


def base(name: str) -> str:
    """The function's name in all spellings."""
    last = name.rpartition(".")[2]
    if last.startswith("__"):
        return last.strip("_")
    return last.removesuffix("_")


def of_single_elements(name: str) -> bool:
    names = {*pointwise.FUNCTIONS, *pointwise.FORMULAS, *pointwise.ALIASES}
    return base(name) in names and not name.rpartition(".")[2].startswith("__")


NAMES = [
    name
    for name in (*lowerings.TABLE, *(n for op in OPERATIONS.values() for n in op.functions))
    if not of_single_elements(name)
]
UNTRACEABLE = {
    "fx": ("builtins.len", "aten."),  # an operator's packet is no function to it
    "export": ("aten.numel",),
}
PLACES = ("torch", "torch.nn.functional", "Tensor", "aten")


def test_every_name_has_a_case() -> None:
    assert sorted({base(name) for name in NAMES} - {base(n) for n in CASES} - {*ELSEWHERE}) == []


def spelled(name: str) -> Callable[..., Any] | None:
    """What a qualified name calls, None where torch has it not."""
    place, _, last = name.rpartition(".")
    if place == "Tensor":
        if not hasattr(Tensor, last):
            return None
        return lambda x, *rest: getattr(x, last)(*rest)
    if place == "aten":
        return getattr(torch.ops.aten, last, None)
    found = resolve(name)
    return None if isinstance(found, str) else found  # type: ignore[no-any-return]


def spellings(name: str, tracing: str) -> dict[str, tuple[Callable[..., Any], Case]]:
    """Those in the tables, and what torch has of the same name that takes the same."""
    registered = [known for known in NAMES if base(known) == name]
    others = [f"{place}.{last}" for place in PLACES for last in (name, f"{name}_")]
    found = {}
    for full in dict.fromkeys([*registered, *others]):
        call, case = spelled(full), CASES.get(full, CASES.get(name))
        if call is None or case is None or full.startswith(UNTRACEABLE[tracing]):
            continue
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case.result(torch.randn(case.shape), call(*case.arguments(torch.randn(case.shape))))
        except (TypeError, RuntimeError, ValueError):
            # Another function by the same name, or an operator without an implementation.
            if full in registered and not full.startswith("aten."):
                raise
            continue
        found[full] = call, case
    return found


class Calls(nn.Module):
    def __init__(self, calls: dict[str, tuple[Callable[..., Any], Case]]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> dict[str, Any]:
        results = {}
        for name, (call, case) in self.calls.items():
            own = x * 1.0
            results[name] = case.result(own, call(*case.arguments(own)))
        return results


def flat(item: Any) -> list[Tensor]:
    return [item] if isinstance(item, Tensor) else [part for i in item for part in flat(i)]


def check(net: nn.Module, x: Any, tracing: str) -> None:
    trace = Trace(net) if tracing == "fx" else ExportTrace(net, x.shape)
    model = ai3.Model.from_graph(capture(trace).graph)
    with torch.no_grad():
        actual, expected = model(x), net(x)
    for name, result in expected.items():
        for one, other in zip(flat(actual[name]), flat(result), strict=True):
            assert one.dtype == other.dtype, name
            torch.testing.assert_close(
                one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


def together(count: int) -> list[list[str]]:
    """Names of functions whose inputs are of one shape, some in one network, which saves time."""
    names: dict[tuple[int, ...], list[str]] = {}
    for name in sorted({base(name) for name in CASES}):
        names.setdefault(
            (CASES.get(name) or CASES[f"torch.nn.functional.{name}"]).shape, []
        ).append(name)
    return [group[i : i + count] for group in names.values() for i in range(0, len(group), count)]


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("names", together(8), ids=lambda names: f"{names[0]} to {names[-1]}")
def test_every_spelling(names: list[str], tracing: str) -> None:
    calls = {}
    for name in names:
        calls |= spellings(name, tracing)
    shapes = {case.shape: None for _, case in calls.values()}
    for shape in shapes:
        of_shape = {name: pair for name, pair in calls.items() if pair[1].shape == shape}
        check(Calls(of_shape).eval(), torch.randn(shape), tracing)


SEQUENCE = (3, 4, 8)
LAYERS: dict[str, tuple[tuple[Any, ...], tuple[int, ...]]] = {
    "Conv2d": ((4, 6, 3), IMAGE),
    "ConvTranspose2d": ((4, 6, 3), IMAGE),
    "Linear": ((5, 6), (3, 4, 5)),
    "MaxPool2d": ((2,), IMAGE),
    "AvgPool2d": ((2,), IMAGE),
    "AdaptiveAvgPool2d": ((2,), IMAGE),
    **{f"{kind}Norm{d}d": ((4,), IMAGES[d]) for kind in ("Batch", "Instance") for d in (1, 2, 3)},
    "LayerNorm": ((5,), (3, 4, 5)),
    "GroupNorm": ((2, 4), IMAGE),
    "LocalResponseNorm": ((3,), IMAGE),
    "Softmax": ((1,), (3, 4, 5)),
    "MultiheadAttention": ((8, 2), SEQUENCE),
    "TransformerEncoderLayer": ((8, 2, 16), SEQUENCE),
    "TransformerDecoderLayer": ((8, 2, 16), SEQUENCE),
    "TransformerEncoder": ((nn.TransformerEncoderLayer(8, 2, 16), 2), SEQUENCE),
    "TransformerDecoder": ((nn.TransformerDecoderLayer(8, 2, 16), 2), SEQUENCE),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), ((5, 6), (3, 4, 5))),
    **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell"), ((5, 6), (3, 5))),
    **{f"Dropout{d}d": ((), IMAGES[d]) for d in (1, 2, 3)},
}
"""What a module is made of, nothing where it has no row, and its input's shape."""
CALLED: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "MultiheadAttention": lambda m, x: m(x, x * 2, x, need_weights=False)[0],
    "TransformerDecoderLayer": lambda m, x: m(x, x * 2),
    "TransformerDecoder": lambda m, x: m(x, x * 2),
}
KINDS = {
    *_MODULES,
    *(resolve(op.module) for op in OPERATIONS.values() if op.module is not None),
    *map(resolve, VANISHING),
}


class Layer(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer = kind(*LAYERS.get(kind.__name__, ((), ()))[0])
        self.called = CALLED.get(kind.__name__, lambda m, x: m(x))

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"it": self.called(self.layer, x * 1.0)}


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("kind", sorted(KINDS, key=str), ids=lambda kind: kind.__name__)
def test_every_module(kind: type[nn.Module], tracing: str) -> None:
    if tracing == "export" and kind.__name__.startswith("Transformer"):
        pytest.skip("torch.export takes these apart into what is tested by itself")
    shape = LAYERS.get(kind.__name__, ((), (3, 4, 5)))[1]
    check(Layer(kind).eval(), torch.randn(shape), tracing)
