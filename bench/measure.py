"""Timing several ways to compute the same thing, so that the comparison is fair: see ai3.timing.
Results are compared before anything is timed: a wrong answer is not fast.
"""

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from ai3.machine import Watch
from ai3.timing import Timing, timed
from ai3.validation.trial import ERROR_FACTORS

NARROW = 64
"""How many times as far away a result may be that is computed in bfloat16, beside what the
algorithm adds to errors."""


class WrongResultError(AssertionError):
    pass


def compare(
    sides: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 1.0,
    epsilons: float = 2000,
    pause: float = 0,
    watch: Watch | None = None,
) -> dict[str, Timing]:
    """Time each side for about `seconds`; `ratio` is that of the first side's time to its own.
    Between their turns nothing is done for `pause` seconds. `watch` keeps the states of the machine
    apart. `first` is the call by which results are compared, where the sides are new.

    Raises `WrongResultError` where a result is further from the first side's than `epsilons`
    machine epsilons of the largest value.
    """
    first: dict[str, float] = {}

    def watched(name: str) -> Callable[[], object]:
        def call() -> object:
            started = time.perf_counter()
            result = sides[name]()
            first[name] = time.perf_counter() - started
            return result

        return call

    check({name: watched(name) for name in sides}, epsilons)
    timings = timed(sides, seconds, pause, watch)
    return {name: replace(timing, first=first[name]) for name, timing in timings.items()}


def check(sides: Mapping[str, Callable[[], object]], epsilons: float) -> float:
    """The largest difference of a result from the first side's; see `compare`."""
    results = {name: _dense(call()) for name, call in sides.items()}
    first, expected = next(iter(results.items()))
    usual = epsilons * torch.finfo(expected.dtype).eps * expected.abs().max().item()
    largest = 0.0
    for name, result in results.items():
        if result.shape != expected.shape:
            shapes = f"{tuple(result.shape)} and {tuple(expected.shape)}"
            raise WrongResultError(f"{name} and {first} differ in shape: {shapes}")
        difference = (result - expected).abs().max().item()
        plain = name.removesuffix(" bf16")
        allowed = usual * (1 if plain == name else NARROW * max(4, ERROR_FACTORS.get(plain, 1)))
        if not difference <= allowed:
            raise WrongResultError(
                f"{name} is {difference:.3g} away from {first}, {allowed:.3g} is allowed"
            )
        largest = max(largest, difference)
    return largest


def relative_error(result: object, exact: torch.Tensor) -> float:
    """The L2 norm of the difference over that of `exact`."""
    return ((_dense(result).double() - exact).norm() / exact.norm()).item()


def keep_freed_memory() -> None:
    """Have glibc's malloc keep what is freed instead of giving it back to the system.

    Otherwise every large output is mapped anew and its pages are zeroed by the kernel at first
    touch, which costs more than some of the operations: it would hit all that allocate by
    themselves and spare those that write into memory of their own. Elsewhere it does nothing.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)


def _dense(result: object) -> torch.Tensor:
    assert isinstance(result, torch.Tensor)
    result = result.detach()
    return result if result.layout == torch.strided else result.to_dense()
