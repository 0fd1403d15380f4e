"""`./run aarch64`: cross-compiles the core, runs every algorithm of every operation under qemu
against the core's own reference, and tells how much of the hot loops is vectors.

`--only OP,...` takes the cases of some operations, `--vectors` looks at the program alone.
"""

import argparse
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ai3.validation.case import Randomly
from ai3.validation.cases import SUITES
from ai3.validation.trial import ERROR_FACTORS, NARROW, Trial, arrays_of

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build/aarch64"
PACKAGES = {
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "qemu-aarch64-static": "qemu-user-static",
}
DRAWN = 4
MOST_ELEMENTS = 200_000
"""Of a case: what takes the emulator seconds is left out."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run aarch64", description=__doc__)
    parser.add_argument("--only", default="", help="operations, separated by commas")
    parser.add_argument("--vectors", action="store_true", help="only look at the program")
    given = parser.parse_args()
    absent = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if absent:
        print(f"aarch64: install what is missing: apt install {' '.join(absent)}", file=sys.stderr)
        return 1
    only = [op for op in given.only.split(",") if op]
    if unknown := [op for op in only if op not in SUITES]:
        print(f"aarch64: {unknown[0]!r} is none of {', '.join(SUITES)}", file=sys.stderr)
        return 2
    program = build()
    wrong = 0 if given.vectors else check(program, only)
    print(vectors(program))
    return wrong


def build() -> Path:
    own = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    configure = ["cmake", "-S", str(HERE), "-B", str(BUILD), "-G", "Ninja", *own]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(BUILD)], check=True)
    return BUILD / "check"


def check(program: Path, only: list[str]) -> int:
    """Of every operation the named cases and some at random, in both types."""
    path = BUILD / "cases.bin"
    with path.open("wb") as file:
        factors = {**ERROR_FACTORS, "bf16": NARROW}
        file.write(struct.pack("<I", len(factors)))
        for name, factor in factors.items():
            file.write(_text(name) + struct.pack("<d", factor))
        count = 0
        for name, trial in _trials(only):
            count += 1
            _write(file, name, trial)
    print(f"{count} cases", flush=True)
    # Emulated threads take turns anyway.
    own = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(["qemu-aarch64-static", str(program), str(path)], env=own).returncode


def _trials(only: list[str]) -> Iterator[tuple[str, Trial]]:
    for op, suite in SUITES.items():
        if only and op not in only:
            continue
        drawn = {f"drawn {i}": suite.draw(Randomly(f"{op} {i}"), op) for i in range(DRAWN)}
        for name, case in {**suite.named, **drawn}.items():
            if case.elements <= MOST_ELEMENTS:
                for dtype in ("float32", "float64"):
                    yield name, Trial(case, dtype)


def _write(file: BinaryIO, name: str, trial: Trial) -> None:
    """As `Case` in check.cpp reads it."""
    case = trial.case
    reduction = SUITES[case.op].reduction(case)
    file.write(_text(case.op) + _text(name) + struct.pack("<d", reduction))
    for arrays in arrays_of(trial):
        file.write(struct.pack("<I", len(arrays)))
        for array in arrays:
            file.write(_array(array))
    file.write(struct.pack("<I", len(case.attributes)))
    for key, value in case.attributes.items():
        file.write(_text(key) + _value(value))


def _array(array: Any) -> bytes:
    if array is None:
        return _text("")
    shape = struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
    return _text(str(array.dtype)) + shape + np.ascontiguousarray(array).tobytes()


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return struct.pack("<cb", b"b", value)
    if isinstance(value, int):
        return struct.pack("<cq", b"i", value)
    if isinstance(value, float):
        return struct.pack("<cd", b"d", value)
    if isinstance(value, str):
        return b"s" + _text(value)
    if all(isinstance(item, int) for item in value):
        return struct.pack(f"<cI{len(value)}q", b"I", len(value), *value)
    return struct.pack(f"<cI{len(value)}d", b"D", len(value), *value)


# In the disassembly: multiply-adds of vectors and of single numbers, and jumps back, which make a
# loop of what lies between.
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(?:[0-9a-f]+ )+\s*\t(\S+)\s*(.*)$")
_VECTOR = re.compile(r"^v\d+\.(4s|2d|2s)")
_MULTIPLY_ADDS = ("fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub")
_ELEMENTS = {"4s": 4, "2d": 2, "2s": 2}


def vectors(program: Path) -> str:
    """A table: of each folder of operations and of the kernels, the multiply-adds in innermost
    loops, how many of these instructions are of vectors, and what share of the products that is."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(BUILD.rglob("*.o")):
        folder = _folder(path)
        if folder is None:
            continue
        text = subprocess.run(
            ["aarch64-linux-gnu-objdump", "-d", str(path)], capture_output=True, text=True
        ).stdout
        found.setdefault(folder, Counter()).update(_counts(text))
    rows = [f"{'':30} {'vectors':>8} {'single':>8} {'of instructions':>16} {'of products':>12}"]
    total: Counter[str] = Counter()
    for folder, counts in sorted(found.items()):
        if counts["vector"] + counts["single"]:
            rows.append(_row(folder, counts))
            total.update(counts)
    return "\n".join([*rows, _row("all", total)])


def _folder(path: Path) -> str | None:
    parts = path.parts
    for place in ("ops", "kernels"):
        if place in parts and not path.name.startswith("op.cpp"):
            i = parts.index(place)
            return f"ops/{parts[i + 1]}" if place == "ops" else "kernels"
    return None


def _row(name: str, counts: "Counter[str]") -> str:
    instructions = counts["vector"] + counts["single"]
    products = counts["products"] + counts["single"]
    return (
        f"{name:30} {counts['vector']:8} {counts['single']:8} "
        f"{counts['vector'] / max(1, instructions):16.1%} "
        f"{counts['products'] / max(1, products):12.1%}"
    )


def _counts(disassembly: str) -> "Counter[str]":
    """Of what lies in innermost loops: a jump back with no other in between."""
    counts: Counter[str] = Counter()
    for function in disassembly.split("\n\n"):
        lines = filter(None, map(_INSTRUCTION.match, function.splitlines()))
        code = [(int(line[1], 16), line[2], line[3]) for line in lines]
        loops = []
        for address, name, operands in code:
            if name.startswith(("b", "cb", "tb")):
                target = re.search(r"\b([0-9a-f]+) <", operands)
                if target and (begin := int(target[1], 16)) <= address:
                    loops.append((begin, address))
        inner = [loop for loop in loops if not any(_holds(loop, other) for other in loops)]
        for address, name, operands in code:
            if name in _MULTIPLY_ADDS and any(a <= address <= b for a, b in inner):
                vector = _VECTOR.match(operands)
                counts["vector" if vector else "single"] += 1
                counts["products"] += _ELEMENTS[vector[1]] if vector else 0
    return counts


def _holds(loop: tuple[int, int], other: tuple[int, int]) -> bool:
    return loop != other and loop[0] <= other[0] and other[1] <= loop[1]


if __name__ == "__main__":
    sys.exit(main())
