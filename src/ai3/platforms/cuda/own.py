"""Our own kernels as the platform's algorithms: `direct` and `smm`."""

from collections.abc import Sequence
from typing import Any

from ai3.platforms import epilogue
from ai3.platforms.cuda import triton as there
from ai3.platforms.cuda.launch import MOST, launch
from ai3.platforms.platform import Algorithm, Run
from ai3.problem import Problem

DTYPES = ("float32", "float64", "float16", "bfloat16")
_MOST = 1 << 31
"""Elements of an image, pixels of all images: what kernels count in 32 bits."""


class Own(Algorithm):
    layouts = frozenset({"channels_last"})

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def refusal(self, p: Problem) -> str:
        if p.dtype not in DTYPES:
            return f"it computes {', '.join(DTYPES)}, not {p.dtype}"
        largest = max(p.IC * p.IH * p.IW, p.OC * p.OH * p.OW, p.N * p.OH * p.OW, p.N * p.IH * p.IW)
        if largest >= _MOST:
            return "an image, or all pixels, are 2^31 elements or more"
        if max(p.groups, p.IC, p.OC) > MOST:
            return f"there are more than {MOST} channels"
        return self.limit(p)

    def limit(self, p: Problem) -> str:
        return ""

    def probe(self, p: Problem) -> str:
        return there.missing(self._platform)

    def fuses(self, p: Problem) -> bool:
        return p.op == "conv2d"

    def pads(self, p: Problem) -> bool:
        return _goes_forward(p) or p.padding_mode == "zeros"

    def precision(self, p: Problem) -> str:
        tf32 = p.dtype == "float32" and self._platform.settings()[0]
        return "tf32" if tf32 else "ieee"


class Direct(Own):
    """Products of matrices of pixels by channels, which are read from the images as they are."""

    name = "direct"

    def stands_for(self, p: Problem) -> str:
        return "direct: pixel by pixel" if _by_scalars(p) else "direct"

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        if p.op == "conv2d_grad_weight":
            return _plan_by_weight(self._platform, p, self.precision(p))
        return _plan_of(self._platform, p, weights, self.precision(p), _by_scalars(p))


class Smm(Own):
    """Images that are moved and multiplied by a weight."""

    name = "smm"

    def plan(self, p: Problem, weights: Sequence[Any]) -> Run:
        return _plan_of(self._platform, p, weights, "ieee", True)


def algorithms_of(platform: Any) -> dict[str, list[Algorithm]]:
    from ai3.platforms.cuda.own_winograd import Winograd

    winograd = [Winograd(platform, name) for name in ("winograd", "winograd f4")]
    of_images = ("conv2d", "conv2d_grad_input", "conv_transpose2d")
    made: dict[str, list[Algorithm]] = {
        op: [Direct(platform), Smm(platform), *winograd] for op in of_images
    }
    return {**made, "conv2d_grad_weight": [Direct(platform), *winograd]}


def _goes_forward(p: Problem) -> bool:
    return p.op in ("conv2d", "conv2d_grad_weight")


def _by_scalars(p: Problem) -> bool:
    """Whether products of matrices have nothing to do: one of few channels, or double precision,
    which they do not have."""
    if p.op == "conv2d_grad_weight":
        return False
    made = p.OC if p.op == "conv2d" else p.IC
    return p.dtype == "float64" or (p.groups > 1 and made // p.groups < 8)


def _strides(shape: Sequence[int], layout: str) -> tuple[int, int, int, int]:
    _, c, h, w = shape
    if layout == "channels_last":
        return h * w * c, 1, w * c, c
    return c * h * w, h * w, w, 1


def shapes_of(p: Problem) -> tuple[Any, Any, Any]:
    """The strides of x, y and w."""
    layout = p.output_layout
    images = ((p.N, p.IC, p.IH, p.IW), (p.N, p.OC, p.OH, p.OW))
    x, y = (_strides(shape, layout) for shape in images)
    return x, y, _strides((p.OC, p.IC // p.groups, p.KH, p.KW), layout)


def _geometry(p: Problem) -> tuple[int, ...]:
    steps = (p.stride_h, p.stride_w, p.pad_top, p.pad_left, p.dilation_h, p.dilation_w)
    return (p.KH, p.KW, *steps)


def _blocks(channels: int, pixels: int, dtype: str) -> tuple[int, int, int, int]:
    """Pixels, channels and terms of a tile, and the warps that share it."""
    columns = 16 if channels <= 16 else 32 if channels <= 32 else 64
    half = dtype in ("float16", "bfloat16")
    rows = 128 if half and pixels >= 128 * 264 else 64
    return rows, columns, 32 if half else 16, 8 if rows == 128 or dtype == "float32" else 4


def _plan_of(
    platform: Any, p: Problem, weights: Sequence[Any], precision: str, scalars: bool
) -> Run:
    from ai3.platforms.cuda import kernels

    weight, bias = (*weights, None)[:2]
    backward = p.op != "conv2d"
    if p.op == "conv2d_grad_input":
        bias = None
    x, y, w = shapes_of(p)
    inputs, outputs = p.IC // p.groups, p.OC // p.groups
    if backward:
        count, sizes = p.N * p.IH * p.IW, (p.IH, p.IW, outputs, inputs, p.OH, p.OW)
        strides = (*y, *w, *x)
    else:
        count, sizes = p.N * p.OH * p.OW, (p.OH, p.OW, inputs, outputs, p.IH, p.IW)
        strides = (*x, *w, *y)
    made = sizes[3]
    activation = epilogue.activation_of(p)
    parameter = float(p.attributes.get("activation_parameter") or 0.0)
    residual = epilogue.has_residual(p)
    numbers = (count, *sizes, *strides, *_geometry(p), parameter)
    chosen: dict[str, Any] = {
        "has_bias": bias is not None,
        "has_residual": residual,
        "activation": activation,
        "mode": p.padding_mode,
        "backward": backward,
    }
    if scalars:
        kernel: Any = kernels.by_scalars
        columns = min(16, 1 << (made - 1).bit_length())
        rows = 128 if columns > 4 else 256
        chosen |= {"wide": p.dtype == "float64", "BM": rows, "BN": columns}
        warps = 4
    else:
        kernel = kernels.by_products
        rows, columns, terms, warps = _blocks(made, count, p.dtype)
        chosen |= {"flat": sizes[2] < 16, "precision": precision, "widened": _widened(p)}
        chosen |= {"BM": rows, "BN": columns, "BK": terms}
    grid = (-(-count // rows), -(-made // columns), p.groups)
    pointers = [p.dtype] * 5
    run_kernel = launch(
        *(platform, kernel, grid, pointers, numbers, chosen, warps), double=p.dtype == "float64"
    )

    def run(given: Sequence[Any], output: Any, workspace: Any) -> None:
        first = given[0]
        run_kernel(
            *(first, weight, first if bias is None else bias),
            *(given[1] if residual else first, output),
        )

    return run


def _plan_by_weight(platform: Any, p: Problem, precision: str) -> Run:
    from ai3.platforms.cuda import kernels

    x, y, w = shapes_of(p)
    inputs, outputs = p.IC // p.groups, p.OC // p.groups
    count, wide = p.N * p.OH * p.OW, p.dtype == "float64"
    sizes = (count, p.OH, p.OW, p.IH, p.IW, inputs, outputs)
    numbers = (*sizes, *x, *y, *w, *_geometry(p))
    rows = columns = 16 if wide else 32
    grid = (-(-outputs // rows), -(-(inputs * p.KH * p.KW) // columns), p.groups)
    chosen = {"mode": p.padding_mode, "precision": precision, "wide": wide}
    chosen |= {"BM": rows, "BN": columns, "BK": 16 if wide else 32, "widened": _widened(p)}
    run_kernel = launch(platform, kernels.by_weight, grid, [p.dtype] * 3, numbers, chosen)

    def run(given: Sequence[Any], output: Any, workspace: Any) -> None:
        run_kernel(given[0], given[1], output)

    return run


def _widened(p: Problem) -> bool:
    """Whether factors become float32 first."""
    from ai3.platforms.cuda.kernels import INTERPRETED

    return INTERPRETED and p.dtype == "bfloat16"
