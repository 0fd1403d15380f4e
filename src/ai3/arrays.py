"""Arrays of other libraries, as the core takes them and as the user gets them back."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ai3 import _core


def follow_torch_threads() -> None:
    """Let torch.set_num_threads apply to the calling thread before the core asks OpenMP."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        torch.get_num_threads()


def is_torch(array: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def readable(array: Any) -> Any:
    """The array in a form whose memory the core can read as it is."""
    if is_torch(array):
        # Sparse and quantised tensors have no dense memory; a negative bit is not in the memory.
        if array.layout != sys.modules["torch"].strided or array.is_quantized:
            raise TypeError(f"expected a dense tensor, not one of layout {array.layout}")
        return array.detach().resolve_neg() if array.is_neg() else array
    return array


def like(given: Any, result: Any) -> Any:
    """The core's result in the type of the array that was given."""
    if isinstance(given, np.ndarray) and not isinstance(result, np.ndarray):
        return result.numpy()
    if isinstance(given, _core.Tensor) and not isinstance(result, _core.Tensor):
        return _core.Tensor(result)
    return result


def zeros(spec: _core.Spec) -> Any:
    if spec.dtype == "bfloat16":
        return of_bits(np.zeros(spec.shape, np.uint16))
    return np.zeros(spec.shape, spec.dtype)


def of_bits(bits: "np.ndarray[Any, Any]") -> _core.Tensor:
    """The bfloat16 tensor whose elements have these bits: how one is pickled."""
    return _core.Tensor.of_bits(bits)


class _Held:
    """What is no array of NumPy's but has `shape` and `restored`, one of float32 that is made anew
    whenever it is asked for."""

    shape: Any
    restored: Callable[[], Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        wide = np.asarray(self.restored())
        return wide if dtype is None else wide.astype(dtype, copy=False)

    def astype(self, dtype: Any, copy: bool = True) -> "np.ndarray[Any, Any]":
        return np.asarray(self, dtype)


class HalvedArray(_Held, _core.Halves):
    """A weight of float32 held as the bfloat16 to which it is rounded and what that leaves: to
    NumPy what it was made of; to the core, where that computes in bfloat16, the rounded one."""

    dtype = np.dtype(np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        return HalvedArray, (np.asarray(self),)


class Bfloat16Array(_Held):
    """A weight held as bfloat16, which NumPy has not: to NumPy the array of float32 that has its
    values; to the core what it is."""

    dtype = SimpleNamespace(name="bfloat16")

    def __init__(self, tensor: _core.Tensor) -> None:
        self.tensor, self.shape = tensor, tensor.shape

    @classmethod
    def rounded(cls, array: "np.ndarray[Any, Any]") -> "Bfloat16Array":
        """Of an array of float32."""
        conversion = {"layout": "dense", "output_dtype": "bfloat16"}
        return cls(_core.Call("reorder", conversion, "direct")(_core.Tensor(array)))

    @property
    def bits(self) -> "np.ndarray[Any, Any]":
        return np.asarray(self.tensor.bits)

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes

    def restored(self) -> "np.ndarray[Any, Any]":
        return (self.bits.astype(np.uint32) << 16).view(np.float32)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.tensor.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


def each(item: Any, change: Callable[[Any], Any]) -> Any:
    """`item` with every array in it changed: itself, or one in a tuple, list or dict."""
    if isinstance(item, dict):
        return {key: each(part, change) for key, part in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(each(part, change) for part in item))
    if isinstance(item, tuple | list):
        return type(item)(each(part, change) for part in item)
    return change(item) if hasattr(item, "__dlpack__") else item


def to_torch(array: Any) -> Any:
    """Any array as torch's, which imports torch."""
    import torch

    return array if isinstance(array, torch.Tensor) else torch.from_numpy(np.asarray(array))


def to_numpy(array: Any, *, copy: bool = False) -> "np.ndarray[Any, Any]":
    """Any array as numpy's."""
    if is_torch(array):
        array = array.detach().cpu()
        array = array.resolve_neg().numpy()
    return np.array(array, copy=True) if copy else np.asarray(array)
