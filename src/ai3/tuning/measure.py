"""Measuring problems: what each algorithm takes where it runs, and how exact it is."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Protocol

import numpy as np

from ai3 import _core
from ai3.algorithms import REGISTERED
from ai3.graph.graph import KINDS
from ai3.tuning import race
from ai3.tuning.database import Row
from ai3.tuning.work import Contender

MOST_FLUSHED = 32 << 20
"""Bytes that go through the caches between two runs of a problem alone, at most: more than a near
cache, and as much as a network's weights are."""

UNASKED_ERROR = 1e-5
"""The relative L2 error up to which "default" may stand for an algorithm: that of plain
"winograd"."""

Watched = Callable[[Callable[[], None]], tuple[None, str]]


class Problems(Protocol):
    """Problems that are timed in one run of what they are in."""

    @property
    def contenders(self) -> Mapping[str, Sequence[Contender]]:
        """By the keys of problems what may compute each."""

    def run(self, algorithms: Mapping[str, str]) -> Mapping[str, float]:
        """Runs each problem by an algorithm, and tells its seconds."""


class Alone:
    """One problem with arrays of its own, as inside of a network: after `flushed` bytes have gone
    through the caches."""

    def __init__(self, contenders: Sequence[Contender], flushed: int) -> None:
        self.contenders = {contenders[0].key: contenders}
        self._trials = {c.algorithm: _core.Trial(c.problem()[0], c.algorithm) for c in contenders}
        self._flushed = min(flushed, MOST_FLUSHED)

    def run(self, algorithms: Mapping[str, str]) -> dict[str, float]:
        return {k: self._trials[name].seconds(self._flushed) for k, name in algorithms.items()}


def measure(
    problems: Problems, watched: Watched, deadline: Callable[[], bool]
) -> tuple[list[Row], list[Row]]:
    """What each contender took in each state that the machine was in: what can be kept, and what
    holds for this process alone, as the algorithm is the user's own."""
    contenders = problems.contenders
    places = {key: [c.algorithm for c in of] for key, of in contenders.items()}
    found = race.race(places, problems.run, watched, deadline)
    kept: list[Row] = []
    own: list[Row] = []
    for key in {key: None for lanes in found.values() for key in lanes}:
        errors = _errors(contenders[key])
        for contender in contenders[key]:
            lanes = {
                state: of[key][contender.algorithm]
                for state, of in found.items()
                if contender.algorithm in of.get(key, ())
            }
            rows = _rows(contender, lanes, errors, len(contenders[key]) == 1) if lanes else []
            (own if (contender.op, contender.algorithm) in REGISTERED else kept).extend(rows)
    return kept, own


def _rows(
    contender: Contender, lanes: Mapping[str, race.Lane], errors: Mapping[str, float], sole: bool
) -> list[Row]:
    problem, weights = contender.problem()
    packed = workspace = 0
    if not sole:
        workspace = _core.Trial(problem, contender.algorithm).workspace_bytes
        packed = weights.packed_bytes
    error = errors.get(contender.algorithm)
    exact = error is not None and error <= UNASKED_ERROR
    return [
        Row(
            contender.key,
            state,
            contender.algorithm,
            contender.op,
            contender.threads,
            lane.seconds,
            len(lane.samples),
            contender.cycles if isfinite(contender.cycles) else None,
            error,
            packed,
            workspace,
            (contender.elected or exact or sole) and not contender.algorithm.endswith(" bf16"),
        )
        for state, lane in lanes.items()
    ]


def _errors(contenders: Sequence[Contender]) -> dict[str, float]:
    """Of each algorithm the relative L2 error against the same in float64, on dense arrays of
    normal numbers and the network's own weights; nothing where there is no choice, or the arrays
    are no floats."""
    first = contenders[0]
    if len(contenders) == 1 or any(s.dtype not in ("float32", "bfloat16") for s in first.inputs):
        return {}
    left_out = ("output_layout", "output_dtype")
    attributes = {k: v for k, v in first.attributes.items() if k not in left_out}
    random = np.random.default_rng(0)
    shapes = [spec.shape for spec in first.inputs]
    inputs = [random.standard_normal(shape, dtype=np.float32) for shape in shapes]
    exact = _run(first, "float64", inputs, attributes, "direct")
    norm = _norm(exact)
    found = {}
    for contender in contenders:
        result = _run(first, "float32", inputs, attributes, contender.algorithm)
        if result is not None and norm > 0:
            found[contender.algorithm] = _norm(result - exact) / norm
    return found


def _norm(array: Any) -> float:
    # NumPy's own would wake the threads of its BLAS.
    return float(np.sqrt(np.square(array).sum()))


def _run(
    of: Contender,
    dtype: str,
    inputs: Sequence[Any],
    attributes: dict[str, Any],
    algorithm: str,
) -> Any:
    """The result in float64; None where the algorithm refuses."""
    specs = [_core.Spec(dtype, array.shape) for array in inputs]
    weights = [
        w if w is None or KINDS[w.dtype.name] != "real" else w.astype(dtype) for w in of.weights
    ]
    problem = _core.problem(of.op, specs, _core.Weights.of(weights), attributes, of.threads)
    if problem.refusal(algorithm):
        return None
    arrays = [array.astype(dtype, copy=False) for array in inputs]
    return problem.run(algorithm, *arrays).numpy().astype(np.float64)
