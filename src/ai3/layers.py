"""Operations as building blocks: of a `Model`, or called alone.

Every layer takes torch tensors, numpy arrays and whatever else has DLPack or the buffer protocol,
and gives back the type it was given. `algorithm` is a name in `SUPPORTED_ALGORITHMS`. Weights are
copied. Shapes and hyper-parameters are as for the torch module of the same name. What does not fit
raises ValueError, an array of another dtype than float32 or float64 TypeError.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ai3 import _core, arrays
from ai3.errors import UnsupportedAlgorithmError
from ai3.ops import OPERATIONS
from ai3.platforms import why_not_on_cpu
from ai3.selector import check_algorithm

IntOrPair = int | Sequence[int]


class Layer:
    """An operation with its weights, hyper-parameters and algorithm."""

    op: str

    def __init__(
        self,
        algorithm: str,
        weights: Sequence[Any] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.algorithm = check_algorithm(self.op, algorithm)
        if reason := why_not_on_cpu(self.op, algorithm):
            raise UnsupportedAlgorithmError([(type(self).__name__, algorithm, reason)])
        self.attributes = dict(attributes or {})
        self.weights = tuple(None if w is None else arrays.to_numpy(w, copy=True) for w in weights)
        self._call = self._make_call()

    def __call__(self, input: Any) -> Any:
        """The operation on an array; see the class for its shapes."""
        arrays.follow_torch_threads()
        return arrays.like(input, self._call(arrays.readable(input)))

    def __repr__(self) -> str:
        shapes = [f"{w.shape}" for w in self.weights if w is not None]
        values = [f"{name}={value!r}" for name, value in self.attributes.items()]
        inside = ", ".join([*shapes, *values, f"algorithm={self.algorithm!r}"])
        return f"{type(self).__name__}({inside})"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_call"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._call = self._make_call()

    def _make_call(self) -> _core.Call:
        call = _core.Call(self.op, self.attributes, self.algorithm)
        call.set_weights(_core.Weights.of(self.weights))
        return call


class Conv2D(Layer):
    """Input (N, IC, IH, IW) or (IC, IH, IW), weight (OC, IC / groups, KH, KW), bias (OC,).

    `padding` is an int, a pair, (top, bottom, left, right), 'same' or 'valid'; `padding_mode` is
    'zeros', 'reflect', 'replicate' or 'circular'.
    """

    op = "conv2d"

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        algorithm: str = "default",
    ) -> None:
        attributes = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "padding_mode": padding_mode,
        }
        super().__init__(algorithm, (weight, bias), attributes)


class Linear(Layer):
    """Input (*, IC), weight (OC, IC), bias (OC,); the output is (*, OC)."""

    op = "linear"

    def __init__(self, weight: Any, bias: Any = None, algorithm: str = "default") -> None:
        super().__init__(algorithm, (weight, bias))


class MaxPool2D(Layer):
    """Input (N, C, H, W) or (C, H, W). `stride` None is `kernel_size`."""

    op = "maxpool2d"

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        ceil_mode: bool = False,
        algorithm: str = "default",
    ) -> None:
        attributes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil_mode,
        }
        super().__init__(algorithm, (), attributes)


class AvgPool2D(Layer):
    """Input (N, C, H, W) or (C, H, W). `stride` None is `kernel_size`."""

    op = "avgpool2d"

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        algorithm: str = "default",
    ) -> None:
        attributes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor_override,
        }
        super().__init__(algorithm, (), attributes)


class AdaptiveAvgPool2D(Layer):
    """Input (N, C, H, W) or (C, H, W). A None in `output_size` keeps the input's extent."""

    op = "adaptiveavgpool2d"

    def __init__(
        self, output_size: int | Sequence[int | None] | None, algorithm: str = "default"
    ) -> None:
        super().__init__(algorithm, (), {"output_size": output_size})


class ReLU(Layer):
    """Input of any shape."""

    op = "relu"

    def __init__(self, algorithm: str = "default") -> None:
        super().__init__(algorithm)


class Flatten(Layer):
    """Input of any shape; dimensions `start_dim` to `end_dim` become one. Memory is shared, not
    copied, where the input is contiguous, unless the algorithm is 'custom'."""

    op = "flatten"

    def __init__(self, start_dim: int = 1, end_dim: int = -1, algorithm: str = "default") -> None:
        super().__init__(algorithm, (), {"start_dim": start_dim, "end_dim": end_dim})

    def __call__(self, input: Any) -> Any:
        if isinstance(input, np.ndarray) or arrays.is_torch(input):
            shape = self._view(tuple(input.shape), input.dtype)
            if shape is not None:
                return input.reshape(shape)
        return super().__call__(input)

    @lru_cache(maxsize=64)  # noqa: B019 - a layer is as small as what is kept of it
    def _view(self, shape: tuple[int, ...], dtype: Any) -> tuple[int, ...] | None:
        """The output's shape where it shares the input's memory."""
        spec = _core.Spec(str(dtype).rpartition(".")[2], shape)
        problem = _core.problem(self.op, [spec], None, self.attributes)
        return problem.output.shape if problem.fusible(self.algorithm) else None


def names() -> dict[str, type[Layer]]:
    """The layer class of each operation that has one."""
    return {layer.op: layer for layer in Layer.__subclasses__() if layer.op in OPERATIONS}
