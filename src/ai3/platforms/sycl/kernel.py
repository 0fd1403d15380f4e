"""The algorithms that are kernels in SPIR-V, wherever these run."""

from collections.abc import Callable, Sequence
from ctypes import c_int, c_long
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

from ai3.platforms.sycl import tiles
from ai3.problem import Problem

KERNELS = Path(__file__).parent / "kernels"
"""The modules in SPIR-V, beside their sources."""


class Arrays(Protocol):
    """What makes arrays in memory that a device's kernels read."""

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Of float32."""

    def integers(self, values: Sequence[int]) -> Any:
        """Of int32."""

    def dense(self, array: Any, order: Sequence[int] | None = None) -> Any:
        """With the dimensions in this order, in row-major order in memory."""


class Device(Protocol):
    def kernel(self, source: str, name: str) -> Callable[..., None]:
        """A kernel of a file in `kernels/`: a function of groups, their size, and arguments."""


Pack = Callable[[Arrays, Problem, Sequence[Any], tiles.Work], tuple[Any, ...]]


@dataclass(frozen=True)
class Form:
    """An algorithm: its operation and name, its kernel's file and name, how its work is divided,
    and the kernel's arguments that come after the input, made of the weights, and at the end."""

    op: str
    name: str
    source: str
    kernel: str
    divide: Callable[[Problem], tiles.Work]
    pack: Pack = lambda arrays, p, weights, work: ()
    more: Callable[[Problem], tuple[Any, ...]] = lambda p: ()


def _direct(arrays: Arrays, p: Problem, weights: Sequence[Any], work: tiles.Work) -> Any:
    """(groups, tiles of OC, stages, terms of a stage, CHANNELS)."""
    a, oc, ic = work.argument, p.OC // p.groups, p.IC // p.groups
    rows = arrays.zeros((p.groups, _tiled(oc), a.chunks * a.chunk, p.KH, p.KW))
    rows[:, :oc, :ic] = weights[0].reshape(p.groups, oc, ic, p.KH, p.KW)
    h, w = (p.KH // a.h.taps, a.h.taps), (p.KW // a.w.taps, a.w.taps)
    parts = rows.reshape(p.groups, -1, tiles.CHANNELS, a.chunks, a.chunk, *h, *w)
    packed = arrays.dense(parts, (0, 1, 3, 5, 7, 4, 6, 8, 2))
    return packed, _bias(arrays, weights), arrays.integers(tiles.shifts(work))


def _implicit_gemm(arrays: Arrays, p: Problem, weights: Sequence[Any], work: tiles.Work) -> Any:
    """(groups, tiles of OC, terms, CHANNELS)."""
    oc, terms = p.OC // p.groups, p.IC // p.groups * p.KH * p.KW
    rows = arrays.zeros((p.groups, _tiled(oc), work.argument.chunk * work.argument.chunks))
    rows[:, :oc, :terms] = weights[0].reshape(p.groups, oc, terms)
    parts = rows.reshape(p.groups, -1, tiles.CHANNELS, rows.shape[-1])
    return arrays.dense(parts, (0, 1, 3, 2)), _bias(arrays, weights)


def _linear(arrays: Arrays, p: Problem, weights: Sequence[Any], work: tiles.Work) -> Any:
    """(terms, pitch)."""
    a = work.argument
    packed = arrays.zeros((a.chunk * a.chunks, a.pitch))
    packed[: p.IC, : p.OC] = weights[0].swapaxes(0, 1)
    return packed, _bias(arrays, weights)


def _as_they_are(arrays: Arrays, p: Problem, weights: Sequence[Any], work: tiles.Work) -> Any:
    return arrays.dense(weights[0]), _bias(arrays, weights)


def _bias(arrays: Arrays, weights: Sequence[Any]) -> Any:
    given = weights[1] if len(weights) > 1 else None
    return None if given is None else arrays.dense(given)


def _tiled(oc: int) -> int:
    return -(-oc // tiles.CHANNELS) * tiles.CHANNELS


def _pooling(op: str) -> Form:
    return Form(op, "direct", "pooling", f"{op}_direct", tiles.pooling)


_PER = 8 * 256


def _elements(p: Problem) -> tiles.Work:
    count = prod(p.output)
    return tiles.Work(c_long(count), (-(-count // _PER),), (256,))


FORMS = (
    Form("conv2d", "direct", "conv2d_direct", "conv2d_direct", tiles.direct, _direct),
    Form("conv2d", "smm", "conv2d_smm", "conv2d_smm", tiles.smm, _as_they_are),
    Form(
        "conv2d",
        "implicit gemm",
        "conv2d_implicit_gemm",
        "conv2d_implicit_gemm",
        tiles.implicit_gemm,
        _implicit_gemm,
        lambda p: (c_int(p.N),),
    ),
    Form("linear", "direct", "linear", "linear_direct", tiles.linear, _linear),
    *map(_pooling, ("maxpool2d", "avgpool2d", "adaptiveavgpool2d")),
    Form("relu", "direct", "relu", "relu_direct", _elements),
)


def refusal(p: Problem) -> str:
    """Why no kernel does the problem, as a clause; empty where one does."""
    if {p.dtype, *p.input_dtypes} != {"float32"}:
        return f"the data is {p.dtype}, and SYCL's kernels compute in float32"
    if p.op != "relu":
        return tiles.refusal(p)
    return ""


class Plan:
    """Runs a form's kernel with weights. `refresh` packs them again."""

    def __init__(
        self, form: Form, device: Device, arrays: Arrays, p: Problem, weights: Sequence[Any]
    ) -> None:
        self._form, self._arrays, self._problem, self._weights = form, arrays, p, weights
        self._work = form.divide(p)
        self._kernel = device.kernel(form.source, form.kernel)
        self.refresh()

    def refresh(self) -> None:
        self._packed = self._form.pack(self._arrays, self._problem, self._weights, self._work)

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        work = self._work
        if all(work.groups):
            more = self._form.more(self._problem)
            self._kernel(
                work.groups, work.size, inputs[0], *self._packed, output, work.argument, *more
            )
