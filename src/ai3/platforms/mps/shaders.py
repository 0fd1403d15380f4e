"""The kernels: their source, and the library that torch compiles of it."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FILES = ("shared", "implicit_gemm", "direct", "smm", "winograd")
"""In the order in which they are joined."""

SCALARS = {"float32": "float", "float16": "half"}
"""What dtypes are called in Metal."""


def source(dtype: str) -> str:
    """The whole source for images of a dtype."""
    return f"#define SCALAR {SCALARS[dtype]}\n" + "".join(map(_text, FILES))


@cache
def library(dtype: str) -> Any:
    """The kernels for images of a dtype, as attributes. Compiled once in a process."""
    import torch

    return torch.mps.compile_shader(source(dtype))


def described(values: Mapping[str, int], device: "torch.device") -> "torch.Tensor":
    """A `Convolution` of shared.metal; what is not given is 0."""
    import torch

    fields = _fields()
    assert values.keys() <= set(fields), values.keys() - set(fields)
    numbers = [values.get(field, 0) for field in fields]
    return torch.tensor(numbers, dtype=torch.int32).to(device)


def code(kind: str, name: str) -> int:
    """What a name of an enumeration of shared.metal, in small letters, is in there."""
    return _names(kind).index(name)


def constant(name: str) -> int:
    """What a name stands for in the source."""
    for text in map(_text, FILES):
        if found := re.search(rf"^constant constexpr int {name} = (\d+);", text, re.M):
            return int(found[1])
    raise ValueError(f"the kernels have no constant {name!r}")


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / "kernels" / f"{name}.metal").read_text()


@cache
def _fields() -> list[str]:
    (body,) = re.findall(r"^struct Convolution \{(.*?)^\};", _text("shared"), re.DOTALL | re.M)
    return re.findall(r"^    int (\w+);", body, re.M)


@cache
def _names(kind: str) -> list[str]:
    (body,) = re.findall(rf"^enum {kind} \{{(.*?)\}};", _text("shared"), re.DOTALL | re.M)
    return [name.strip().lower() for name in body.split(",")]


ROWS, COLUMNS, THREADS = constant("ROWS"), constant("COLUMNS"), constant("THREADS")
"""Of a product of tiles."""
