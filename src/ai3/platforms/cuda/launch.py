"""Kernels of Triton compiled once and launched by CUDA's driver: a launch by Triton itself looks at
every argument again in Python, which takes longer than a small kernel."""

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_double, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, TypeAlias

DTYPES = {
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
    "bool": "i1",
    "uint8": "u8",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
}
"""Triton's names of the types that pointers point to."""

_NUMBERS: dict[str, Any] = {"i32": c_int32, "i64": c_int64, "fp32": c_float, "fp64": c_double}
ALIGNMENT = 16
"""Bytes of which tensors' addresses are multiples; kernels are told which numbers are, too."""

MOST = 65535
"""Programs in the second and third dimension of a grid."""

Launch: TypeAlias = Callable[..., None]
"""Of the tensors that the kernel's first parameters point to."""


def launch(
    platform: Any,
    kernel: Any,
    grid: Sequence[int],
    pointers: Sequence[str],
    numbers: Sequence[int | float],
    constants: Mapping[str, Any],
    warps: int = 4,
    double: bool = False,
) -> Launch:
    """What launches a kernel on the platform's current device and stream. Its parameters are
    `pointers` to tensors of dtypes, then `numbers`, then `constants`; `double` numbers that are no
    integers have double precision."""
    from ai3.platforms.cuda.kernels import INTERPRETED

    if INTERPRETED:
        return interpreted(kernel, grid, numbers, constants)
    signature = (
        *(f"*{DTYPES[dtype]}" for dtype in pointers),
        *(_type_of(number, double) for number in numbers),
    )
    hints = tuple(_hint(number) for number in numbers)
    device = platform.current_device()
    capability = platform.capability(device)
    made = compiled(kernel, signature, hints, _frozen(constants), warps, capability)
    return _Launch(platform, device, made, grid, len(pointers), signature, numbers)


def interpreted(
    kernel: Any, grid: Sequence[int], numbers: Sequence[Any], constants: Mapping[str, Any]
) -> Launch:
    """The same in Triton's interpreter, on the CPU."""
    run = kernel[tuple(grid)]
    return lambda *tensors: run(*tensors, *numbers, **constants)


@dataclass(frozen=True, eq=False)
class Compiled:
    """A kernel's machine code. `kept` tells which of its numbers are parameters and no constants;
    `unused` is how many parameters Triton adds, of scratch memory that none of ours has."""

    image: bytes
    name: str
    shared: int
    threads: int
    kept: tuple[bool, ...]
    unused: int
    ptx: str


@lru_cache(maxsize=4096)
def compiled(
    kernel: Any,
    signature: tuple[str, ...],
    hints: tuple[str, ...],
    constants: tuple[tuple[str, Any], ...],
    warps: int,
    capability: int,
) -> Compiled:
    """The kernel for a GPU, which need not be here. `hints` tell of the numbers, that come after
    the pointers, which are "one" and which "divisible"."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    types = dict(zip(names, signature, strict=False)) | {n: "constexpr" for n, _ in constants}
    given, first = dict(constants), len(signature) - len(hints)
    for name, hint in zip(names[first:], hints, strict=False):
        if hint == "one":
            types[name], given[name] = "constexpr", 1
    divisible = [*range(first), *(first + i for i, h in enumerate(hints) if h == "divisible")]
    source = ASTSource(
        kernel,
        {name: types[name] for name in names},
        given,
        {(i,): [["tt.divisibility", ALIGNMENT]] for i in divisible},
    )
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    made = triton.compile(source, target=target, options=options)
    kept = tuple(hint != "one" for hint in hints)
    ptx = made.asm["ptx"]
    head = ptx[ptx.index(".entry") : ptx.index(")", ptx.index(".entry"))]
    unused = len(re.findall(r"\.param ", head)) - first - sum(kept)
    return Compiled(
        made.asm["cubin"], made.metadata.name, made.metadata.shared, 32 * warps, kept, unused, ptx
    )


class _Launch:
    def __init__(
        self,
        platform: Any,
        device: int,
        made: Compiled,
        grid: Sequence[int],
        pointers: int,
        signature: Sequence[str],
        numbers: Sequence[Any],
    ) -> None:
        self._driver, self._stream, self._device = platform.driver, platform.stream, device
        self._driver.enter(device)
        function = _loaded(self._driver, made, device)
        self._addresses = [c_void_p() for _ in range(pointers)]
        kept = [
            _NUMBERS[kind](number)
            for kind, number, is_kept in zip(signature[pointers:], numbers, made.kept, strict=True)
            if is_kept
        ]
        self._values = [*self._addresses, *kept, *(c_void_p() for _ in range(made.unused))]
        # One more that is null ends them.
        places = [*map(ctypes.addressof, self._values), None]
        self._parameters = (c_void_p * len(places))(*places)
        blocks = [*grid, 1, 1][:3]
        self._head = (function, *blocks, made.threads, 1, 1, made.shared)
        self._call = self._driver.functions["cuLaunchKernel"]
        self._lock = Lock()

    def __call__(self, *tensors: Any) -> None:
        driver, device = self._driver, self._device
        driver.enter(device)
        with self._lock:  # the driver copies the parameters
            for address, tensor in zip(self._addresses, tensors, strict=True):
                address.value = tensor.data_ptr()
            status = self._call(*self._head, self._stream(device), self._parameters, None)
        if status:
            driver.check("cuLaunchKernel", status)


@lru_cache(maxsize=4096)
def _loaded(driver: Any, made: Compiled, device: int) -> int:
    function: int = driver.function(made.image, made.name, made.shared)
    return function


def _type_of(number: float, double: bool) -> str:
    if isinstance(number, float):
        return "fp64" if double else "fp32"
    return "i32" if -(1 << 31) <= number < 1 << 31 else "i64"


def _hint(number: float) -> str:
    """As Triton specializes numbers."""
    if isinstance(number, float):
        return ""
    return "one" if number == 1 else "divisible" if number % ALIGNMENT == 0 else ""


def _frozen(constants: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(constants.items()))
