"""What an algorithm of a platform is asked, with the answers that the core's problems give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ai3 import _core
from ai3.platforms import activations, borders, epilogue, no_such
from ai3.platforms import measured as measured_times
from ai3.platforms.platform import CHOOSING, Algorithm, Platform, Run, too_much
from ai3.problem import Problem

IMAGES = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv_transpose2d")
"""The operations whose problems are always batched here."""

FORMATS = {"dense": torch.contiguous_format, "channels_last": torch.channels_last}
"""torch's, by layouts."""

_STAND_INS = {"float16": "float32", "bfloat16": "float32"}
"""In what the core infers the shapes of what it does not compute with."""


@dataclass(frozen=True)
class Array:
    """The dtype, shape and layout of an array, on whatever device."""

    dtype: str
    shape: tuple[int, ...]
    layout: str = "dense"


@dataclass(frozen=True)
class Planned:
    """What runs a task: `run` of inputs, output and workspace, `algorithm` by its exact name;
    `refresh`, where there is one, packs the weights' elements again; `Algorithm` tells the rest."""

    run: Run
    algorithm: str
    workspace_bytes: int
    output: Array
    allocates: bool
    refresh: Callable[[], None] | None
    made_of_elements: bool


class Task:
    """An operation's work on a device of a platform. Raises ValueError for what does not fit, as
    `ai3._core.problem` does.

    `certain` says that these are the shapes that will come, and no stand-ins for some that are not
    known; `memory` is the bytes that a workspace may have.
    """

    def __init__(
        self,
        platform: Platform,
        op: str,
        inputs: Sequence[Array],
        weights: Sequence[Array | None],
        attributes: Mapping[str, Any],
        *,
        certain: bool = True,
        memory: int | None = None,
    ) -> None:
        self.platform, self.op, self.certain, self.memory = platform, op, certain, memory
        self.inputs = tuple(map(_batched, inputs) if op in IMAGES else inputs)
        self.made_batched = self.inputs[0] is not inputs[0]
        self.weights, self.attributes = tuple(weights), dict(attributes)
        specs = [_core.Spec(_STAND_INS.get(a.dtype, a.dtype), a.shape) for a in self.inputs]
        held = _core.Weights.of([a and _stand_in(a) for a in weights], False)
        found = _core.problem(op, specs, held, self.attributes).output
        dtype = found.dtype
        if dtype == "float32":
            dtype = next((a.dtype for a in self.inputs if a.dtype in _STAND_INS), dtype)
        self.output = Array(dtype, found.shape, self.inputs[0].layout if op in IMAGES else "dense")

    def resolve(self, algorithm: str) -> str:
        """The algorithm that a name stands for, as exactly as it can be said."""
        found = self._find(algorithm)
        if isinstance(found, str) or self._refusal(found):
            return algorithm
        return found.stands_for(self._given(found))

    def refusal(self, algorithm: str) -> str:
        """Why the algorithm cannot do it; empty where it can."""
        found = self._find(algorithm)
        return found if isinstance(found, str) else self._refusal(found)

    def workspace_bytes(self, algorithm: str) -> int:
        found = self._find(algorithm)
        return 0 if isinstance(found, str) else found.workspace_bytes(self._given(found))

    def ranking(self) -> list[tuple[str, float]]:
        """The algorithms that can do it, the least cost first: before those that have one, whatever
        was measured, in seconds."""
        return self._ranking

    def fusible(self, algorithm: str) -> bool:
        """Always: torch does after an algorithm what that does not fuse."""
        return True

    def layout_for(self, algorithm: str) -> str:
        """That in which the algorithm takes the images, and weights of four dimensions."""
        found = self._find(algorithm)
        known = not isinstance(found, str) and found.takes(self.problem)
        return self.problem.output_layout if known else "dense"

    def plan(self, algorithm: str, weights: Sequence[Any]) -> Planned:
        """Raises ValueError where the algorithm refuses."""
        found = self._find(algorithm)
        reason = found if isinstance(found, str) else self._refusal(found)
        if isinstance(found, str) or reason:
            raise ValueError(
                f"{self.op}: '{algorithm}' cannot do this on {self.platform.device}: {reason}"
            )
        problem, given = self.problem, self._given(found)
        made = found.plan(given, weights)
        run: Run = made
        empty = any(0 in array.shape for array in self.inputs)
        if empty:  # no terms to add up, or no sums
            run = _zeros
        if given.attributes.get("padding") != problem.attributes.get("padding"):
            run = borders.around(run, problem, FORMATS[given.output_layout])
        if epilogue.has_epilogue(problem) and not epilogue.has_epilogue(given):
            run = activations.after(self.platform, run, problem)
        return Planned(
            run,
            found.stands_for(given),
            found.workspace_bytes(given),
            replace(self.output, layout=given.output_layout),
            found.allocates and not empty,
            getattr(made, "refresh", None),
            found.made_of_elements,
        )

    @cached_property
    def _ranking(self) -> list[tuple[str, float]]:
        algorithms = self.platform.algorithms(self.op)
        measured = measured_times.seconds_of(self.platform, self.problem)
        known = sorted((seconds, name) for name, seconds in measured.items() if name in algorithms)
        others = [pair for pair in self.platform.ranking(self.problem) if pair[0] not in measured]
        ranking = [*((name, seconds) for seconds, name in known), *others]
        return [pair for pair in ranking if not self._refusal(algorithms[pair[0]])]

    @property
    def key(self) -> str:
        """That under which measured times of the problem are kept."""
        return measured_times.key_of(self.platform, self.problem)

    @cached_property
    def problem(self) -> Problem:
        return self._as_problem(self.output.layout)

    def _as_problem(self, layout: str) -> Problem:
        inputs = tuple(replace(array, layout=layout) for array in self.inputs)
        output = replace(self.output, layout=layout)
        described = (self.op, inputs, self.weights, output, self.attributes, 1)
        return Problem(described, self.platform.device, self.memory)

    def _find(self, name: str) -> Algorithm | str:
        """The algorithm, or why there is none."""
        algorithms = self.platform.algorithms(self.op)
        if name in algorithms:
            return algorithms[name]
        if name in CHOOSING:
            ranking = self.ranking()
            if ranking:
                return algorithms[ranking[0][0]]
            return f"{self.platform.name} has no algorithm that can do it"
        return no_such(self.op, name, self.platform.device)

    def _refusal(self, algorithm: Algorithm) -> str:
        given = self._given(algorithm)
        reason = algorithm.refusal(given)
        if reason or not self.certain:
            return reason
        reason = algorithm.probe(given)
        if reason or self.memory is None:
            return reason
        needed = algorithm.workspace_bytes(given)
        return "" if needed <= self.memory else too_much(needed, self.memory)

    def _given(self, algorithm: Algorithm) -> Problem:
        """The problem as the algorithm gets it."""
        problem = self.problem
        inputs, attributes = list(self.inputs), dict(self.attributes)
        if borders.has_borders(problem) and not algorithm.pads(problem):
            size = borders.padded_size(problem)
            attributes |= {"padding": (0, 0, 0, 0), "padding_mode": "zeros"}
            if self.op == "conv2d_grad_input":
                attributes["input_size"] = size
            else:
                inputs[0] = replace(inputs[0], shape=(*inputs[0].shape[:-2], *size))
        if epilogue.has_epilogue(problem) and not algorithm.fuses(problem):
            attributes = {k: v for k, v in attributes.items() if k not in epilogue.ATTRIBUTES}
            inputs = inputs[:1]
        layout = self.layout_for(algorithm.name)
        if (tuple(inputs), attributes) == (self.inputs, self.attributes):
            return problem if layout == problem.output_layout else self._as_problem(layout)
        plain = Task(self.platform, self.op, inputs, self.weights, attributes, memory=self.memory)
        return plain._as_problem(layout)


def _zeros(inputs: Sequence[Any], output: Any, workspace: Any) -> Any:
    return output.zero_()


def _batched(array: Array) -> Array:
    return array if len(array.shape) != 3 else replace(array, shape=(1, *array.shape))


def _stand_in(array: Array) -> "np.ndarray[Any, Any]":
    """Memory that nobody reads."""
    return np.empty(array.shape, _STAND_INS.get(array.dtype, array.dtype))
