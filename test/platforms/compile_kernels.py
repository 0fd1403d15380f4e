"""Compiles our kernels for a GPU that need not be here, and prints for each, in JSON, the registers
of a thread and the bytes of shared memory and of what is spilled.

python -m test.platforms.compile_kernels 90 [NAME ...]"""

import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from ai3.platforms.cuda import kernels, winograd

POINTERS = {"x", "w", "bias", "residual", "y", "dy", "dw", "out"}
EPILOGUE = {"has_bias": True, "has_residual": True, "activation": "silu"}


def products(blocks: tuple[int, int, int], precision: str, flat: bool, backward: bool) -> Any:
    sizes = dict(zip(("BM", "BN", "BK"), blocks, strict=True))
    more = {"mode": "zeros", "widened": False, "precision": precision}
    return {**EPILOGUE, **more, **sizes, "flat": flat, "backward": backward}


def scalars(wide: bool) -> Any:
    more = {"mode": "reflect", "backward": False, "wide": wide, "BM": 128, "BN": 16}
    return {**EPILOGUE, **more}


def by_weight(block: int, wide: bool) -> Any:
    more = {"mode": "zeros", "precision": "ieee", "wide": wide, "widened": False}
    return {**more, "BM": block, "BN": block, "BK": block}


KERNELS: dict[str, tuple[Any, str, int, Any]] = {
    "products": (kernels.by_products, "fp32", 8, products((64, 64, 16), "ieee", False, False)),
    "products_back": (
        *(kernels.by_products, "fp32", 8),
        products((64, 64, 16), "ieee", False, True),
    ),
    "products_tf32": (
        *(kernels.by_products, "fp32", 8),
        products((64, 64, 16), "tf32", False, False),
    ),
    "products_half": (
        *(kernels.by_products, "fp16", 8),
        products((128, 64, 32), "ieee", False, False),
    ),
    "products_flat": (
        *(kernels.by_products, "bf16", 4),
        products((64, 64, 32), "ieee", True, False),
    ),
    "scalars": (kernels.by_scalars, "fp32", 4, scalars(False)),
    "scalars_double": (kernels.by_scalars, "fp64", 4, scalars(True)),
    "weight": (kernels.by_weight, "fp32", 4, by_weight(32, False)),
    "weight_double": (kernels.by_weight, "fp64", 4, by_weight(16, True)),
    "image": (winograd.image_transform, "fp32", 2, {"BLOCK": 64}),
    "image_double": (winograd.image_transform, "fp64", 2, {"BLOCK": 64}),
    "kernel": (winograd.weight_transform, "fp32", 4, {"BLOCK": 128}),
    "result": (winograd.result_transform, "fp32", 2, {"BLOCK": 64, **EPILOGUE}),
}
"""The function, its pointers' type, the warps and what is constant, in the blocks that are used."""


def usage(name: str, capability: int) -> dict[str, Any]:
    kernel, dtype, warps, constants = KERNELS[name]
    signature = {
        argument: "constexpr"
        if argument in constants
        else f"*{dtype}"
        if argument in POINTERS
        else "fp32"
        if argument == "parameter"
        else "i32"
        for argument in kernel.arg_names
    }
    target = GPUTarget("cuda", capability, 32)
    source = ASTSource(kernel, signature, constants)
    made = triton.compile(source, target=target, options={"num_warps": warps})
    found = get_ptxas(capability)
    path = found[0] if isinstance(found, tuple) else found.path
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"])
        file.flush()
        arch = "sm_90a" if capability == 90 else f"sm_{capability}"
        command = [path, "-v", f"--gpu-name={arch}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", told)
    assert registers is not None, told
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", told)))
    return {
        "registers": int(registers[1]),
        "shared": made.metadata.shared,
        "spilled": spills,
    }


if __name__ == "__main__":
    names = sys.argv[2:] or list(KERNELS)
    print(json.dumps({name: usage(name, int(sys.argv[1])) for name in names}))
