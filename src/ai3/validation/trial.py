"""One case of one algorithm in one way: right, refused or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod, sqrt
from typing import Any

import numpy as np

from ai3 import _core
from ai3.validation.case import Case
from ai3.validation.cases import INDEXED, SUITES
from ai3.validation.layouts import from_memory, to_memory

_Arrays = tuple[list[Any], list[Any]]

VALUES = ("random", "special")
STRIDES = ("transposed", "every second", "reversed")

ERROR_FACTORS = {
    "winograd f2": 4,
    "winograd": 80,
    "winograd f4": 30,
    "winograd f6": 80,
    "fft": 2,
    "strassen": 8,
}
"""What an algorithm adds to the rounding of a sum: Winograd's transforms by their tile, the Fourier
transform, to which all pixels of a tile contribute, some."""

NARROW = 2.0**16
"""How many times as large the error of "... bf16" is, which rounds what it multiplies."""

TOLERANCE = 32.0
"""That of algorithms that are not ai3's, Winograd's with tiles of 4 among them."""

ROUNDINGS = 8
"""How many times as large as epsilon times the root of the sum's length times the largest value an
error may be: the error of a recursive sum grows with epsilon times its length in the worst case and
with the square root of the length for random signs (Higham, Accuracy and Stability, chapter 4)."""

FILLS = (0x45, 0xFF)
"""Bytes that memory is full of before a run: large numbers, and NaN."""


@dataclass(frozen=True)
class Trial:
    """A case, the dtype and the way in which it runs.

    `input_layout` is that of the images among the inputs, `output_layout` that of the output, where
    it is not the operation's own choice. `values` are normally distributed, or with NaN and
    infinity among them. `strides`: how the arrays lie in memory that are given to a call, which has
    as many threads as there are; otherwise the algorithm runs on watched memory.
    """

    case: Case
    dtype: str = "float32"
    threads: int = 1
    input_layout: str = "dense"
    output_layout: str | None = None
    values: str = "random"
    strides: str | None = None
    seed: int = 0

    def line(self, algorithm: str, file: str | None = None, tolerance: float | None = None) -> str:
        """The call of `ai3.check` that does it again."""
        case = self.case
        given = {"file": file, "inputs": list(case.inputs), "weights": list(case.weights) or None}
        ways = {
            "input_layout": None if self.input_layout == "dense" else self.input_layout,
            "output_layout": self.output_layout,
            "strides": self.strides,
            "values": None if self.values == "random" else self.values,
            "seed": self.seed or None,
            "tolerance": tolerance,
        }
        always = {"dtype": self.dtype, "threads": self.threads}
        arguments = {**given, **case.attributes, **always, **ways}
        texts = [f"{k}={v!r}" for k, v in arguments.items() if v is not None]
        return f"ai3.check({case.op!r}, {algorithm!r}, {', '.join(texts)})"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    `status` is "right", "refused", "wrong", or "invalid" where it is no problem of the operation.
    `kind` of wrong ones names the fault in few words. `error` and `direct` are the largest error of
    this algorithm and of "direct", over epsilon times the root of the sum's length times the
    largest value. `spread`: to how many elements NaN and infinity came that should have none.
    """

    status: str
    why: str = ""
    kind: str = ""
    error: float | None = None
    direct: float | None = None
    spread: int = 0

    def __repr__(self) -> str:
        if self.status == "right":
            return f"right, its error {self.error or 0:.3g} (direct's {self.direct or 0:.3g})"
        return f"{self.status}: {self.kind and self.kind + ': '}{self.why}"


class Wrong(Exception):
    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def attempt(trial: Trial, algorithm: str, tolerance: float | None = None) -> Outcome:
    """Runs it, in this process."""
    try:
        inputs, weights = arrays_of(trial)
        problem = _problem(trial, weights)
        if trial.strides and any(s.layout != "dense" for s in (*problem.inputs, problem.output)):
            return Outcome("invalid", "arrays that have strides are in no other layout than dense")
        if trial.input_layout not in (spec.layout for spec in problem.inputs):
            return Outcome("invalid", f"no input is an image, which could be {trial.input_layout}")
    except (ValueError, TypeError) as error:
        return Outcome("invalid", str(error))
    try:
        if refusal := problem.refusal(algorithm):
            return Outcome("refused", refusal)
    except (Exception, SystemExit) as error:
        return _raised(error)
    expected = _reference(trial, inputs, weights)
    try:
        return _compared(trial, problem, algorithm, tolerance, (inputs, weights), expected)
    except Wrong as wrong:
        return Outcome("wrong", str(wrong), wrong.kind)
    except (Exception, SystemExit) as error:
        return _raised(error)


def _raised(error: BaseException) -> Outcome:
    return Outcome("wrong", f"{type(error).__name__}: {error}", "raises an exception")


def _problem(trial: Trial, weights: list[Any], dtype: str | None = None) -> _core.Problem:
    """Of another dtype: dense, for the reference."""
    attributes = dict(trial.case.attributes)
    if trial.output_layout:
        attributes["output_layout"] = trial.output_layout
    if dtype and trial.case.op == "reorder":
        attributes["layout"] = "dense"
    specs = []
    for i, shape in enumerate(trial.case.inputs):
        of = "int64" if _is_index(trial.case, i) else dtype or trial.dtype
        layout = trial.input_layout if len(shape) in (3, 4) else "dense"
        specs.append(_core.Spec(of, shape, layout))
    held = _core.Weights.of(weights, False)
    return _core.problem(trial.case.op, specs, held, attributes, trial.threads)


def _is_index(case: Case, i: int) -> bool:
    return i == 1 and case.op in INDEXED


def arrays_of(trial: Trial) -> tuple[list[Any], list[Any]]:
    """Inputs and weights, dense."""
    case, random = trial.case, np.random.default_rng(trial.seed)
    inputs = []
    for i, shape in enumerate(case.inputs):
        if _is_index(case, i):
            extent = case.inputs[0][case.attributes.get("dim", 0)]
            inputs.append(random.integers(-extent, max(extent, 1 - extent), shape))
            continue
        x = np.asarray(random.standard_normal(shape)).astype(trial.dtype)
        if trial.values == "special" and x.size:
            flat = x.reshape(-1)
            flat[random.integers(x.size)] = np.inf
            flat[random.integers(x.size)] = np.nan
        inputs.append(x)
    weights: list[Any] = []
    for i, held in enumerate(case.weights):
        if held is None:
            weights.append(None)
            continue
        w = np.asarray(random.standard_normal(held))
        if case.op.startswith("batch") and i == 3:
            w = 0.5 + np.abs(w)
        elif len(held) > 1:
            # Sums of any length are of order 1.
            w /= sqrt(max(1, prod(held[1:])))
        weights.append(w.astype(trial.dtype))
    return inputs, weights


@dataclass(frozen=True)
class _Reference:
    """The result in double precision, its largest finite value, and the error of "direct"."""

    result: Any
    largest: float
    direct: float | None


_KEPT: dict[str, _Reference] = {}
"""The last ones: the ways in which a case runs have the same."""


def _reference(trial: Trial, inputs: list[Any], weights: list[Any]) -> _Reference:
    plain = replace(trial, threads=1, input_layout="dense", output_layout=None, strides=None)
    if found := _KEPT.get(key := repr(plain)):
        return found
    wide = [_in_double(x) for x in inputs]
    problem = _problem(plain, [_in_double(w) for w in weights], "float64")
    expected = problem.reference(*wide).numpy()
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    largest = max(1.0, float(finite.max())) if finite.size else 1.0
    direct = None
    given = _problem(plain, weights)
    if trial.values == "random" and not given.refusal("direct"):
        result = _results(given, "direct", inputs, FILLS[:1])[0][0]
        direct = _error(trial, result, expected, largest)
    if len(_KEPT) >= 8:
        del _KEPT[next(iter(_KEPT))]
    _KEPT[key] = _Reference(expected, largest, direct)
    return _KEPT[key]


def _in_double(array: Any) -> Any:
    return array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array


def _error(trial: Trial, actual: Any, expected: Any, largest: float) -> float:
    """The largest, see `Outcome`; of results that are chosen and not computed, 0 or infinity."""
    if not actual.size:
        return 0.0
    if actual.dtype.kind != "f":
        return 0.0 if np.array_equal(actual, expected) else inf
    finite = np.isfinite(actual) & np.isfinite(expected)
    difference = np.abs(actual[finite].astype(np.float64) - expected[finite])
    worst = float(difference.max()) if difference.size else 0.0
    reduction = SUITES[trial.case.op].reduction(trial.case)
    if reduction == 0:
        return inf if worst else 0.0
    return worst / (float(np.finfo(actual.dtype).eps) * sqrt(reduction) * largest)


def _compared(
    trial: Trial,
    problem: _core.Problem,
    algorithm: str,
    tolerance: float | None,
    arrays: _Arrays,
    expected: _Reference,
) -> Outcome:
    inputs, weights = arrays
    before = [None if w is None else w.tobytes() for w in weights]
    if trial.strides:
        results = [_called(trial, algorithm, inputs, weights)]
    else:
        results = _watched(trial, problem, algorithm, inputs)
    if before != [None if w is None else w.tobytes() for w in weights]:
        raise Wrong("writes a weight", "a weight is not what it was before")
    name = problem.resolve(algorithm)
    if tolerance is None:
        # What passes may fuse is ai3's own.
        tolerance = _error_factor(name) if problem.fusible(name) else TOLERANCE
    spread, error = 0, 0.0
    for result in results:
        spread = max(spread, _check_special(trial, result, expected.result))
        error = max(error, _error(trial, result, expected.result, expected.largest))
        if not error <= ROUNDINGS * tolerance:
            why = _difference(result, expected.result, error, tolerance)
            raise Wrong("gives wrong results", why)
    return Outcome("right", error=error, direct=expected.direct, spread=spread)


def _error_factor(name: str) -> float:
    plain = name.removesuffix(" bf16")
    return ERROR_FACTORS.get(plain, 1) * (1 if plain == name else NARROW)


def _watched(trial: Trial, problem: _core.Problem, algorithm: str, inputs: list[Any]) -> list[Any]:
    results, complaints = _results(problem, algorithm, inputs, FILLS)
    if complaints:
        kind = "writes an input" if complaints[0].startswith("input") else "writes out of bounds"
        raise Wrong(kind, complaints[0])
    one, other = (np.ascontiguousarray(result) for result in results)
    different = (one != other) & ~((one != one) & (other != other))
    # Several threads may add up in another order each time.
    if trial.threads == 1 and different.any():
        where = _first(different)
        raise Wrong(
            "depends on what its memory held",
            f"the element {where} is {one[where]!s} when output and workspace held "
            f"{_fill(FILLS[0], one.dtype)} before, {other[where]!s} when they held "
            f"{_fill(FILLS[1], one.dtype)}",
        )
    return results


def _results(
    problem: _core.Problem, algorithm: str, inputs: list[Any], fills: Sequence[int]
) -> tuple[list[Any], list[str]]:
    spec = problem.output
    memory = [to_memory(x, given.layout) for x, given in zip(inputs, problem.inputs, strict=True)]
    outputs, complaints = _core.probe(problem, algorithm, memory, fills)
    return [from_memory(output.numpy().view(spec.dtype), spec) for output in outputs], complaints


def _called(trial: Trial, algorithm: str, inputs: list[Any], weights: list[Any]) -> Any:
    """Twice: what is kept of the first arrays must not serve the second."""
    call = _core.Call(trial.case.op, dict(trial.case.attributes), algorithm)
    call.set_weights(_core.Weights.of([w if w is None else _strided(w, trial) for w in weights]))
    call(*(_strided(np.ones_like(x) if x.dtype.kind == "f" else x, trial) for x in inputs))
    return np.asarray(call(*(_strided(x, trial) for x in inputs)))


def _strided(x: Any, trial: Trial) -> Any:
    """The same array in memory that is not dense."""
    if trial.strides == "reversed":
        return np.flip(np.flip(x).copy())
    if trial.strides == "transposed":
        return x.T.copy().T
    return np.stack([x, np.full_like(x, 7)], -1)[..., 0]


def _check_special(trial: Trial, actual: Any, expected: Any) -> int:
    """How many elements are NaN or infinite that should not be, where some should be."""
    if actual.shape != expected.shape:
        raise Wrong("gives wrong results", f"its shape is {actual.shape}, not {expected.shape}")
    if actual.dtype.kind != "f":
        return 0
    special, found = ~np.isfinite(expected), ~np.isfinite(actual)
    # Infinity minus itself is NaN in some orders of adding up, and none in others.
    lost = special & (~found | (np.isinf(expected) & (actual == -expected)))
    if lost.any():
        where = _first(lost)
        raise Wrong(
            "loses NaN or infinity",
            f"the element {where} is {actual[where]!s} instead of {expected[where]!s}",
        )
    spread = found & ~special
    if spread.any() and trial.values == "random":
        where = _first(spread)
        raise Wrong(
            "gives wrong results",
            f"the element {where} is {actual[where]!s} instead of {expected[where]!s}",
        )
    return int(spread.sum())


def _difference(actual: Any, expected: Any, error: float, tolerance: float) -> str:
    if actual.dtype.kind == "f":
        both = np.isfinite(actual) & np.isfinite(expected)
        apart = np.where(both, np.abs(np.where(both, actual, 0.0) - np.where(both, expected, 0)), 0)
    else:
        apart = actual != expected
    place = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    return (
        f"the element {place} is {actual[place]!s} instead of {expected[place]!s}, "
        f"{error:.3g} roundings apart where {ROUNDINGS * tolerance:.3g} are allowed; "
        f"{np.count_nonzero(apart)} of {apart.size} elements differ"
    )


def _first(mask: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _fill(byte: int, dtype: Any) -> str:
    return str(np.frombuffer(bytes([byte]) * 8, "uint8" if dtype.kind == "b" else dtype)[0])
