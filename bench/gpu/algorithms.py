"""All algorithms of a platform x named and drawn cases, against the reference in double precision.

python -m bench.gpu.algorithms [--part N --of N] [--seconds N] [--own]: those of this GPU, as JSON.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ai3.platforms import platform_of
from ai3.validation.case import Randomly
from ai3.validation.cases import SUITES
from bench.gpu.place import Place
from bench.gpu.reference import wrong

OPS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv_transpose2d", "linear", "matmul")
DTYPES = ("float32", "float64", "float16", "bfloat16")
LAYOUTS = ("dense", "channels_last")
OWN = ("direct", "smm", "winograd f4")
"""The algorithms whose kernels are ours."""


def cases(place: Place) -> Iterator[tuple[Any, ...]]:
    """Every algorithm with every case, dtypes and layouts in turns, the named cases first."""
    number = 0
    for drawn in (False, True):
        for op in OPS:
            suite = SUITES[op]
            found = suite.named
            if drawn:
                found = {f"drawn {i}": suite.draw(Randomly(f"{op} {i}"), op) for i in range(20)}
            for case_name, case in found.items():
                if any(0 in shape for shape in case.inputs):
                    continue
                for name in place.platform.algorithms(op):
                    number += 1
                    yield op, case_name, case, name, DTYPES[number % 4], LAYOUTS[number // 4 % 2]


def check(place: Place, part: int = 0, of: int = 1, only: Sequence[str] = ()) -> None:
    """Every `of`-th case from `part` on, of all algorithms or `only` some."""
    known = [each for each in cases(place) if not only or each[3] in only]
    for op, case_name, case, name, dtype, layout in known[part::of]:
        if place.is_time_up:
            return
        what = f"{op} {name!r} {case_name} {dtype} {layout}"
        try:
            found = wrong(place.platform, place.device, case, name, dtype, layout)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found is not None:  # it is not refused
            place.expect(not found, f"{what}: {found}")


def shared(place: Place) -> None:
    """The same by as many processes as there may be: most of the time goes into compiling kernels,
    which one process does after the other."""
    if place.processes == 1:
        check(place)
        return
    command = [sys.executable, "-m", "bench.gpu.algorithms", "--seconds", str(place.left - 5)]
    parts = [
        subprocess.Popen(
            [*command, "--part", str(part), "--of", str(place.processes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in range(place.processes)
    ]
    try:
        for part in parts:
            told, failed = part.communicate(timeout=max(1.0, place.left + 10))
            take(place, told, failed)
    finally:
        for part in parts:
            with suppress(OSError):
                part.kill()


def take(place: Place, told: str, failed: str) -> None:
    """Add what a process has found."""
    lines = told.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        place.expect(False, f"a process ended early: {(told + failed)[-1500:]}")
        return
    place.tried += found["tried"]
    place.faults += found["faults"]


def main(arguments: Sequence[str], device: str = "cuda") -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--own", action="store_true")
    given = parser.parse_args(arguments)
    platform = platform_of(device.partition(":")[0])
    assert platform is not None
    place = Place(platform, device, time.monotonic() + given.seconds)
    check(place, given.part, given.of, OWN if given.own else ())
    print(json.dumps({"tried": place.tried, "faults": place.faults}))
    return int(bool(place.faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
