"""Tells which algorithm is taken for what, and why, once each: to the logger "ai3.choice", which
prints to standard error where the environment variable AI3_LOG is "choice"."""

import logging
import os
import warnings
from collections.abc import Iterable
from typing import Any

LOGGERS = ("choice",)
"""What AI3_LOG may name, several with commas between them."""

_logger = logging.getLogger("ai3.choice")
_told: set[str] = set()


def told() -> bool:
    """Whether somebody listens."""
    return _logger.isEnabledFor(logging.INFO)


def tell(name: str, problem: Any, asked: str) -> None:
    """Tell what `asked`, an algorithm's name, stands for in a problem, the core's or what answers
    as one does, that the user knows by a `name`."""
    taken = problem.resolve(asked)
    ranking = dict(problem.ranking())
    others = [(other, cost) for other, cost in ranking.items() if other != taken]
    if not others:
        return  # there was no choice
    shapes = " and ".join("x".join(map(str, spec.shape)) for spec in problem.inputs)
    found = "measured" if _was_measured(problem, taken) else "estimated"
    why = "chosen by its name"
    if asked != taken:
        why = f"{found} to take least of {len(ranking)}{_than(others[0], ranking.get(taken, 0.0))}"
    text = f"{name or 'a layer'} ({problem.op} of {shapes}): {taken}, {why}"
    if text not in _told:
        _told.add(text)
        _logger.info(text)


def listen(names: Iterable[str]) -> None:
    """Print what loggers tell, those that AI3_LOG names."""
    for name in names:
        if name not in LOGGERS:
            text = f"AI3_LOG may be {', '.join(LOGGERS)}, not {name!r}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            continue
        logger = logging.getLogger(f"ai3.{name}")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _than(second: tuple[str, float], cost: float) -> str:
    return f"; {second[0]} {second[1] / cost:.2f} times as long" if cost > 0 else ""


def _was_measured(problem: Any, algorithm: str) -> bool:
    from ai3 import tuning

    times = tuning.opened() if hasattr(problem, "key") else None
    return times is not None and any(r.algorithm == algorithm for r in times.rows(problem.key))


listen(filter(None, os.environ.get("AI3_LOG", "").split(",")))
