"""What a machine can do at most, and which of its limits a computation meets (the roofline model:
Williams, Waterman, Patterson, CACM 52(4), 2009)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from ai3 import _core

ARRAY_BYTES = 1 << 27
REPEATS = 3

COMPUTE, MEMORY = "compute", "memory"


@dataclass(frozen=True)
class Roofline:
    """Measured on `threads` threads: `gflops` by dtype, the multiply-adds from registers in
    GFLOP/s, and `bandwidth`, the GB/s at which arrays are read that no cache holds."""

    threads: int
    gflops: Mapping[str, float]
    bandwidth: float

    def peak(self, dtype: str) -> float:
        """GFLOP/s of what is computed in a dtype; bfloat16 is where the processor multiplies pairs
        of it, if that is faster than float32."""
        return max(
            self.gflops.get(dtype, 0.0), self.gflops["float64" if dtype == "float64" else "float32"]
        )

    def limit(self, flops: int, moved: int, dtype: str) -> str:
        """Which limit a computation meets first that moves so many bytes."""
        if not flops:
            return MEMORY
        computing = flops / self.peak(dtype)
        return COMPUTE if computing >= moved / self.bandwidth else MEMORY


@cache
def roofline(threads: int, state: str) -> Roofline:
    """This machine's, measured once in a process for each state that `ai3.machine` finds it in, in
    some tenths of a second."""
    gflops = {
        dtype: max(_core.fma_peak(dtype, threads) for _ in range(REPEATS))
        for dtype in ("float32", "float64", "bfloat16")
    }
    return Roofline(threads, gflops, _read_bandwidth(threads))


def _read_bandwidth(threads: int) -> float:
    """By a sum of rows that fit no cache together."""
    x = np.ones((1024, ARRAY_BYTES // 4 // 1024), np.float32)
    attributes = {"dim": 1, "keepdim": False}
    problem = _core.problem("sum", [_core.Spec("float32", x.shape)], None, attributes, threads)

    def seconds() -> float:
        started = time.perf_counter()
        problem.run("direct", x)
        return time.perf_counter() - started

    return x.nbytes / min(seconds() for _ in range(REPEATS)) / 1e9
