"""The package's Metal kernels on this processor: their source, compiled by g++ with a stand-in for
Metal's library, behind what `torch.mps.compile_shader` gives."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "metal"
WARNINGS = ("-Wall", "-Wextra", "-Werror")

KERNEL = re.compile(r"^kernel void (\w+)\((.*?)\) \{", re.DOTALL | re.MULTILINE)
_PARAMETER = re.compile(r"(.+?)(\w*) \[\[(\w+)(?:\((\d+)\))?\]\]", re.DOTALL)
_POSITIONS = {
    "threadgroup_position_in_grid": "at.group",
    "thread_index_in_threadgroup": "at.index",
    "thread_position_in_grid": "at.grid",
}


class Library:
    """What `compile_shader` gives: kernels as attributes."""

    def __init__(self, source: str) -> None:
        self._library = ctypes.CDLL(str(compiled(source)))
        self._buffers = {name: _buffers(text) for name, text in KERNEL.findall(source)}

    def __dir__(self) -> list[str]:
        return list(self._buffers)

    def __getattr__(self, name: str) -> "Kernel":
        if name.startswith("_") or name not in self._buffers:
            raise AttributeError(name)
        return Kernel(name, self._library[f"run_{name}"], self._buffers[name])


class Kernel:
    """Called as torch's: positional arguments are buffers in their order."""

    calls: list[str]

    def __init__(self, name: str, run: Any, buffers: dict[int, str]) -> None:
        self._name, self._run, self._buffers = name, run, buffers

    def __call__(
        self,
        *arguments: Tensor,
        threads: int | Sequence[int] | None = None,
        group_size: int | Sequence[int] | None = None,
    ) -> None:
        if len(arguments) != len(self._buffers):
            raise TypeError(f"{self._name} has {len(self._buffers)} buffers, not {len(arguments)}")
        if threads is None or group_size is None:
            raise TypeError(f"{self._name} needs threads and group_size")
        grid, size = _three(threads), _three(group_size)
        if not all(grid):
            raise ValueError(f"{self._name}: an empty grid {grid}")
        if size[0] * size[1] * size[2] > 1024:
            raise ValueError(f"{self._name}: groups of {size} threads are too large")
        pointers = []
        for i, argument in enumerate(arguments):
            memory = plain(argument)
            wanted = _TYPES.get(self._buffers[i], memory.dtype)
            if memory.dtype is not wanted:
                raise TypeError(f"{self._name}: buffer {i} is {memory.dtype}, not {wanted}")
            if memory.numel() == 0:
                raise ValueError(f"{self._name}: buffer {i} is empty")
            pointers.append(memory.data_ptr())
        self._run(
            (ctypes.c_void_p * len(pointers))(*pointers),
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*size),
        )
        LAUNCHED.append(self._name)


_TYPES = {"float": torch.float32, "int": torch.int32, "Convolution": torch.int32}

LAUNCHED: list[str] = []
"""The kernels that ran, in order."""


def plain(tensor: Tensor) -> Tensor:
    """The memory of a tensor."""
    return getattr(tensor, "memory", tensor)


def compiled(source: str) -> Path:
    """The shared library of a source."""
    text = f'#include "metal_stdlib"\n#line 1 "kernels.metal"\n{source}\n{_entries(source)}'
    parts = [text, *((HERE / name).read_text() for name in ("metal_stdlib", "group.hpp"))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = BUILD / f"{digest}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        file = BUILD / f"{digest}.{os.getpid()}.cpp"
        file.write_text(text)
        made = file.with_suffix(".so")
        subprocess.run(
            [
                *_compiler(),
                *(
                    "-std=c++14",
                    "-O3",
                    "-march=native",
                    *WARNINGS,
                    "-fPIC",
                    "-shared",
                    "-U_FORTIFY_SOURCE",
                ),
                *("-I", str(HERE), str(file), "-o", str(made)),
            ],
            check=True,
        )
        made.replace(library)
        file.unlink()
    return library


def has_compiler() -> bool:
    return bool(_compiler())


def checks_address_spaces() -> bool:
    return bool(_clang())


def check_address_spaces(source: str) -> None:
    """Raises ValueError where what is in one address space is taken for what is in another."""
    text = f'#include "metal_stdlib"\n#line 1 "kernels.metal"\n{source}'
    flags = ("-x", "c++", "-std=c++14", "-fsyntax-only", *WARNINGS, "-Wno-unused-function")
    ran = subprocess.run(
        [_clang(), *flags, "-DCHECKED_ADDRESS_SPACES", "-I", str(HERE), "-"],
        input=text,
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise ValueError(ran.stderr)


def _clang() -> str:
    names = ("clang++", *(f"clang++-{version}" for version in range(22, 13, -1)))
    return next(filter(None, map(shutil.which, names)), "")


def _compiler() -> list[str]:
    chosen = os.environ.get("CXX", "").split() or ["g++"]
    return chosen if shutil.which(chosen[0]) else []


def parameters(text: str) -> list[tuple[str, str, str, str]]:
    """Of a kernel: type with address space, name, attribute, and its number."""
    return [tuple(part.strip() for part in found) for found in _PARAMETER.findall(text)]  # type: ignore[misc]


def _buffers(text: str) -> dict[int, str]:
    """The element type of each buffer."""
    kinds = {}
    for kind, _, attribute, index in parameters(text):
        if attribute == "buffer":
            kinds[int(index)] = kind.strip(", \n*&").split()[-1]
    return kinds


def _entries(source: str) -> str:
    """For each kernel a function of C that runs it on a grid."""
    entries = []
    for name, text in KERNEL.findall(source):
        given = []
        for kind, _, attribute, index in parameters(text):
            kind = kind.strip(", \n")
            if attribute == "buffer":
                pointer = kind.rstrip("&").rstrip("*").strip()
                if kind.endswith("&"):
                    given.append(f"*({pointer} *)buffers[{index}]")
                else:
                    given.append(f"({pointer} *)buffers[{index}]")
            else:
                fields = {"uint": "x", "uint2": "xy", "uint3": "xyz"}[kind]
                at = _POSITIONS[attribute]
                whole = attribute == "thread_index_in_threadgroup"
                values = [at] if whole else [f"{at}.{field}" for field in fields]
                given.append(f"{kind}{{{', '.join(values)}}}")
        entries.append(
            f'extern "C" void run_{name}(void **buffers, const unsigned *threads, '
            f"const unsigned *size) {{\n"
            f"    dispatch(threads, size, [=](const Position &at) {{\n"
            f"        {name}({', '.join(given)});\n    }});\n}}\n"
        )
    return "\n".join(entries)


def _three(extent: int | Sequence[int]) -> tuple[int, int, int]:
    values = (extent,) if isinstance(extent, int) else tuple(extent)
    x, y, z = (*values, 1, 1)[:3]
    return x, y, z
