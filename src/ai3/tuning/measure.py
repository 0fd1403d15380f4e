"""Measuring one problem: what each algorithm takes for it as inside of a network."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from ai3 import _core
from ai3.algorithms import REGISTERED
from ai3.graph.specialize import REAL
from ai3.tuning import race
from ai3.tuning.database import Row
from ai3.tuning.work import Contender, Work

MOST_FLUSHED = 32 << 20
"""Bytes that go through the caches between two runs, at most: more than a near cache, and as much
as a network's weights are."""

UNASKED_ERROR = 1e-5
"""The relative L2 error up to which "default" may stand for an algorithm: that of plain
"winograd"."""

SECONDS_A_CYCLE = 0.4e-9
"""To tell what other layouts cost, before anything was measured."""

Watched = Callable[[Callable[[], float]], tuple[float, str]]


def measure(
    work: Work, watched: Watched, flushed: int, deadline: Callable[[], bool]
) -> tuple[list[Row], list[Row]]:
    """What each contender took in each state that the machine was in: what can be kept, and what
    holds for this process alone, as the algorithm is the user's own."""
    candidates: dict[str, race.Candidate] = {}
    held: dict[str, tuple[Contender, int, int]] = {}
    allowance = work.moving * SECONDS_A_CYCLE
    for contender in work.contenders:
        if deadline() and candidates:
            break
        problem, weights = contender.problem()
        trial = _core.Trial(problem, contender.algorithm)
        held[contender.name] = (contender, weights.packed_bytes, trial.workspace_bytes)

        def sample(trial: Any = trial) -> float:
            return float(trial.seconds(flushed))

        candidates[contender.name] = race.Candidate(sample, contender.key, allowance)
    found = race.race(candidates, watched, deadline)
    candidates.clear()
    errors = _errors(work)
    kept: list[Row] = []
    own: list[Row] = []
    for state, lanes in found.items():
        for name, lane in lanes.items():
            contender, packed, workspace = held[name]
            error = errors.get(contender.algorithm)
            estimated = isfinite(contender.cycles)
            exact = error is not None and error <= UNASKED_ERROR
            row = Row(
                contender.key,
                state,
                contender.algorithm,
                contender.op,
                contender.threads,
                lane.seconds,
                len(lane.samples),
                contender.cycles if estimated else None,
                error,
                packed,
                workspace,
                (estimated or exact) and not contender.algorithm.endswith(" bf16"),
            )
            is_own = (contender.op, contender.algorithm) in REGISTERED
            (own if is_own else kept).append(row)
    return kept, own


def _errors(work: Work) -> dict[str, float]:
    """Of each algorithm the relative L2 error against the same in float64, on dense arrays of
    normal numbers and the network's own weights; nothing where the arrays are no floats."""
    first = work.contenders[0]
    if any(spec.dtype not in ("float32", "bfloat16") for spec in first.inputs):
        return {}
    left_out = ("output_layout", "output_dtype")
    attributes = {k: v for k, v in first.attributes.items() if k not in left_out}
    random = np.random.default_rng(0)
    shapes = [spec.shape for spec in first.inputs]
    inputs = [random.standard_normal(shape, dtype=np.float32) for shape in shapes]
    exact = _run(first, "float64", inputs, attributes, "direct")
    norm = _norm(exact)
    found = {}
    for name in dict.fromkeys(contender.algorithm for contender in work.contenders):
        result = _run(first, "float32", inputs, attributes, name)
        if result is not None and norm > 0:
            found[name] = _norm(result - exact) / norm
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
    weights = [w if w is None or w.dtype.name not in REAL else w.astype(dtype) for w in of.weights]
    problem = _core.problem(of.op, specs, _core.Weights.of(weights), attributes, of.threads)
    if problem.refusal(algorithm):
        return None
    arrays = [array.astype(dtype, copy=False) for array in inputs]
    return problem.run(algorithm, *arrays).numpy().astype(np.float64)
