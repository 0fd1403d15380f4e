"""Compiles our kernels, as the platform's algorithms launch them, for a GPU that need not be here,
and prints for each, in JSON, the registers of a thread, the bytes of shared memory and of what is
spilled, and whether the parameters are those that it will be launched with.

python -m test.platforms.compile_kernels 90 [--all]"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from triton.backends.nvidia.compiler import get_ptxas

from ai3 import _core
from ai3.platforms.cuda import elementwise, launch, own
from ai3.platforms.platform import Algorithm, Platform
from ai3.platforms.task import FORMATS, Array, Task
from ai3.torch.programs import run_program

SIZES = {"odd": (2, 5, 9, 11, 7), "ones": (1, 1, 4, 4, 1), "sixteen": (16, 64, 32, 32, 64)}
"""N IC IH IW OC: Triton compiles numbers that are 1, or multiples of 16, into a kernel."""
DTYPES = ("float32", "float16", "bfloat16", "float64")
QUICK = {
    80: [
        ("conv2d", "direct", "sixteen", "float16", "channels_last", False),
        ("conv2d", "smm", "odd", "float32", "dense", False),
        ("conv2d", "winograd f4", "ones", "float32", "dense", False),
        ("conv2d_grad_weight", "winograd f4", "odd", "float16", "dense", False),
    ],
    90: [
        ("conv2d_grad_input", "direct", "sixteen", "float32", "dense", True),
        ("conv2d_grad_weight", "direct", "odd", "bfloat16", "dense", False),
        ("conv2d", "winograd f4", "sixteen", "float32", "dense", False),
    ],
}
"""Operation, algorithm, size, dtype, layout, and whether TF32 is permitted."""


class Compiling(Platform):
    """A GPU that loads kernels and launches none."""

    name = device = "compiling"

    def __init__(self, capability: int) -> None:
        super().__init__()
        self._capability, self.tf32 = capability, False
        nothing: Any = lambda *_: 0  # noqa: E731
        self.driver: Any = type("Driver", (), {"function": nothing, "enter": nothing})()
        self.driver.functions = {"cuLaunchKernel": nothing}

    def missing(self) -> str:
        return ""

    def settings(self) -> Any:
        return (self.tf32, self.tf32, False)

    def capability(self, index: int) -> int:
        return self._capability

    def current_device(self) -> int:
        return 0

    def stream(self, index: int) -> int:
        return 0

    def make_algorithms(self) -> dict[str, list[Algorithm]]:
        return own.algorithms_of(self)


def every(platform: Platform) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """All algorithms in all dtypes for the usual sizes, and in turns for the others."""
    for op in platform.operations():
        for name in platform.algorithms(op):
            if name == "winograd":  # the same as winograd f4
                continue
            for layout in FORMATS:
                for dtype in DTYPES:
                    yield op, name, "sixteen", dtype, layout, False
                yield op, name, "sixteen", "float32", layout, True
            for i, size in enumerate(("odd", "ones")):
                yield op, name, size, DTYPES[(i + len(name)) % 4], "dense", False


def programs(whole: bool) -> Iterator[tuple[str, list[torch.Tensor]]]:
    """Programs of single elements with their inputs: some, or one of each function and type."""
    x, y, z = torch.ones(2, 3, 4, 5), torch.ones(3, 1, 1), torch.ones(()) > 0
    text = "mul(x0, x1); sigmoid(t0); add(t1, 1.5); where(x2, t2, x0)"
    for dtype in DTYPES:
        yield text, [x.to(getattr(torch, dtype)), y.to(getattr(torch, dtype)), z]
        if not whole:
            return
    for name in sorted(elementwise.FUNCTIONS):
        operands = _core.pointwise_functions()[name]
        for dtype in (*DTYPES, "int64", "int32", "uint8", "bool"):
            first = x.to(getattr(torch, dtype))
            last = "0.5" if name == "pow" else "x1"
            text = f"{name}({', '.join(['x0', last, 'x0'][:operands])})"
            with suppress(RuntimeError, TypeError):  # torch has no such function
                run_program(text, [first, first])
                yield text, [first, first][: 1 + ("x1" in text)]


def plan(
    platform: Compiling, op: str, name: str, size: str, dtype: str, layout: str, tf32: bool
) -> bool:
    """Have an algorithm plan a convolution of 3x3; whether it can."""
    platform.tf32 = tf32
    n, ic, h, w, oc = SIZES[size]
    images, made, kernel = (n, ic, h, w), (n, oc, h, w), (oc, ic, 3, 3)
    attributes: dict[str, Any] = {"padding": 1}
    weights: list[Any] = [kernel, (oc,)]
    if op == "conv2d":
        inputs = [images, made]
        attributes |= {"activation": "silu"}
    elif op == "conv2d_grad_input":
        inputs, attributes["input_size"] = [made], (h, w)
        weights[1] = None
    elif op == "conv2d_grad_weight":
        inputs, weights, attributes["kernel_size"] = [images, made], [], (3, 3)
    else:
        inputs, weights = [made], [kernel, (ic,)]
    arrays = [Array(dtype, shape, layout) for shape in inputs]
    held = [shape and Array(dtype, shape) for shape in weights]
    task = Task(platform, op, arrays, held, attributes)
    if task.refusal(name):
        return False
    kind = getattr(torch, dtype)
    task.plan(name, [shape and torch.empty(shape, dtype=kind) for shape in weights])
    return True


def usage(made: launch.Compiled, signature: tuple[str, ...], capability: int) -> dict[str, Any]:
    found = get_ptxas(capability)
    path = found[0] if isinstance(found, tuple) else found.path
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.ptx)
        file.flush()
        arch = "sm_90a" if capability == 90 else f"sm_{capability}"
        command = [path, "-v", f"--gpu-name={arch}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", told)
    assert registers is not None, told
    return {
        "registers": int(registers[1]),
        "shared": made.shared,
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", told))),
        "launched right": parameters(made) == passed(made, signature),
    }


def parameters(made: launch.Compiled) -> list[str]:
    """The types of the kernel's parameters."""
    head = made.ptx[made.ptx.index(".entry") :]
    return re.findall(r"\.param \.(\w+)", head[: head.index(")")])


def passed(made: launch.Compiled, signature: tuple[str, ...]) -> list[str]:
    """Those with which it is launched."""
    sizes = {"i32": "u32", "i64": "u64", "fp32": "f32", "fp64": "f64"}
    pointers = len(signature) - len(made.kept)
    numbers = zip(signature[pointers:], made.kept, strict=True)
    own = [*["u64"] * pointers, *(sizes[kind] for kind, is_kept in numbers if is_kept)]
    return [*own, *["u64"] * made.unused]


def main(capability: int, whole: bool) -> None:
    platform, found, seen = Compiling(capability), dict[str, Any](), dict[Any, str]()
    compiled = launch.compiled

    def noted(kernel: Any, signature: Any, *rest: Any) -> launch.Compiled:
        made = compiled(kernel, signature, *rest)
        if made not in seen:
            name = seen[made] = f"{made.name}: {label}"
            found[name] = usage(made, signature, capability)
        return made

    launch.compiled = noted  # type: ignore[assignment]
    for case in every(platform) if whole else QUICK[capability]:
        label = " ".join(map(str, case))
        plan(platform, *case)
    for text, inputs in programs(whole):
        label = f"{text} {inputs[0].dtype}"
        elementwise.run(platform, text, inputs, None)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), "--all" in sys.argv)
