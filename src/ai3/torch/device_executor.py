"""A graph for inputs of known shapes on a device of a platform, step by step on torch's tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ai3 import _core
from ai3.errors import UnsupportedAlgorithmError
from ai3.graph.compile import PASSES, infer
from ai3.graph.graph import CONSTANT, Graph, Node
from ai3.graph.specialize import specialize
from ai3.graph.weights import WeightStore
from ai3.platforms.platform import Platform
from ai3.platforms.task import FORMATS, Array, Task
from ai3.torch.device_layer import in_format, workspace_of
from ai3.torch.functions import FUNCTIONS, program_for

OWN = "torch"
"""The algorithm of what torch's own functions compute."""

Step: TypeAlias = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Place:
    """Where a graph runs: the device, the dtype in which values of float32 are held there, and the
    bytes that the workspace of a step may have."""

    platform: Platform
    device: torch.device
    dtype: torch.dtype
    memory: int | None = None

    @property
    def layout(self) -> str:
        """That of images."""
        return self.platform.image_layout(str(self.dtype).removeprefix("torch."))

    def name_of(self, dtype: str) -> str:
        """The dtype in which values of a graph's dtype are held, and weights in bfloat16."""
        narrow = dtype in ("float32", "bfloat16")
        return str(self.dtype).removeprefix("torch.") if narrow else dtype


class DeviceWeights:
    """The weights of a graph's nodes on the device, each array once."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held: dict[int, tuple[Any, Tensor]] = {}

    def of(self, arrays: Sequence[Any]) -> list[Tensor | None]:
        return [None if array is None else self._tensor(array) for array in arrays]

    def _tensor(self, array: Any) -> Tensor:
        if id(array) not in self._held:
            tensor = torch.from_numpy(np.array(array, order="C"))
            dtype = self._place.dtype if tensor.dtype is torch.float32 else tensor.dtype
            # The array is kept, so that no other has its number.
            self._held[id(array)] = array, tensor.to(self._place.device, dtype)
        return self._held[id(array)][1]


@dataclass
class CompiledOnDevice:
    """As `ai3.graph.compile.Compiled`."""

    executor: "DeviceExecutor"
    graph: Graph
    problems: Mapping[str, _core.Problem]
    algorithms: Mapping[str, str]
    steps: tuple[str, ...] = field(default=())


def compile_on_device(
    graph: Graph,
    inputs: Sequence[_core.Spec],
    place: Place,
    weights: WeightStore,
    held: DeviceWeights,
    unsupported: str,
) -> CompiledOnDevice:
    """Plan every node. Raises what `specialize` does, and UnsupportedAlgorithmError with every
    refusal."""
    compiled = specialize(graph, inputs, weights)
    for improve in PASSES:
        compiled = improve(compiled, weights)
    steps: list[tuple[Node, Step]] = []
    algorithms: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    refusals = []
    with place.platform.guard(place.device):
        for node in compiled.nodes:
            own = held.of(node.weights)
            if node.op == CONSTANT:
                assert own[0] is not None
                constants[node.name] = own[0]
                continue
            made = _planned(compiled, node, own, place, unsupported)
            if isinstance(made, str):
                refusals.append((node.label, node.algorithm, made))
            else:
                step, algorithms[node.name] = made
                steps.append((node, step))
    if refusals:
        raise UnsupportedAlgorithmError(refusals)
    executor = DeviceExecutor(compiled, steps, constants, place)
    names = tuple(node.name for node, _ in steps)
    return CompiledOnDevice(executor, compiled, infer(compiled, weights), algorithms, names)


def _planned(
    graph: Graph, node: Node, weights: list[Tensor | None], place: Place, unsupported: str
) -> tuple[Step, str] | str:
    """What computes a node and the algorithm that does, or why it cannot."""
    platform, names = place.platform, [node.algorithm]
    if unsupported != "raise":
        names.append(unsupported)
    task, reason = None, ""
    for name in names:
        if name == "default" and not platform.algorithms(node.op):
            return _by_function(node, weights, place), OWN
        task = task or _task(graph, node, place)
        refusal = task.refusal(name)
        if not refusal:
            return _by_algorithm(task, name, weights, place), task.resolve(name)
        if name == "default":
            return _by_function(node, weights, place), OWN
        reason = reason or refusal
    return reason


def _task(graph: Graph, node: Node, place: Place) -> Task:
    def array(spec: _core.Spec) -> Array:
        layout = place.layout if len(spec.shape) == 4 else "dense"
        return Array(place.name_of(spec.dtype), spec.shape, layout)

    inputs = [array(graph.specs[name]) for name in node.inputs]
    weights = [
        w if w is None else Array(place.name_of(w.dtype.name), w.shape) for w in node.weights
    ]
    return Task(place.platform, node.op, inputs, weights, node.attributes, memory=place.memory)


def _by_function(node: Node, weights: Sequence[Tensor | None], place: Place) -> Step:
    """A program by the platform's own kernel, where it has one, and all else by torch."""
    function, attributes = FUNCTIONS[node.op], node.attributes
    program = program_for(node.op, attributes)

    def step(inputs: list[Tensor]) -> Tensor:
        made = None if program is None else place.platform.elementwise(program, inputs)
        return function(inputs, weights, attributes) if made is None else made

    return step


def _by_algorithm(task: Task, name: str, weights: Sequence[Tensor | None], place: Place) -> Step:
    memory, alignment = FORMATS[task.layout_for(name)], place.platform.alignment
    held = [w if w is None else in_format(w, memory, alignment) for w in weights]
    planned = task.plan(name, held)
    shape, dtype = planned.output.shape, getattr(torch, planned.output.dtype)
    of_output, bytes = FORMATS[planned.output.layout], planned.workspace_bytes
    batched, what = task.made_batched, f"{task.op} by '{planned.algorithm}'"

    def step(inputs: list[Tensor]) -> Tensor:
        given = [in_format(x[None] if batched else x, memory, alignment) for x in inputs]
        workspace = workspace_of(bytes, place.device, what)
        if planned.allocates:
            made: Tensor = planned.run(given, None, workspace)
        else:
            made = torch.empty(shape, dtype=dtype, device=place.device, memory_format=of_output)
            planned.run(given, made, workspace)
        return made[0] if batched else made

    return step


class DeviceExecutor:
    """Runs it. A value's memory is free for others after the last step that reads it."""

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[tuple[Node, Step]],
        constants: Mapping[str, Tensor],
        place: Place,
    ) -> None:
        self._place, self._inputs = place, graph.inputs
        numbers = {name: i for i, name in enumerate((*graph.inputs, *constants))}
        last: dict[str, int] = {}
        for i, (node, _) in enumerate(steps):
            numbers[node.name] = len(numbers)
            last.update(dict.fromkeys(node.inputs, i))
        kept = {*graph.outputs, *constants}
        self._constants = list(constants.values())
        self._count = len(numbers)
        self._outputs = [numbers[name] for name in graph.outputs]
        self._steps = [
            (
                step,
                [numbers[name] for name in node.inputs],
                numbers[node.name],
                [
                    numbers[name]
                    for name in dict.fromkeys(node.inputs)
                    if last[name] == i and name not in kept
                ],
            )
            for i, (node, step) in enumerate(steps)
        ]
        self._replay: Any = None
        self._lock = Lock()

    def __call__(self, inputs: Sequence[Tensor], own: bool = False) -> list[Tensor]:
        with torch.no_grad(), self._place.platform.guard(self._place.device):
            replay = self._replay
            if replay is None:
                with self._lock:
                    replay = self._replay or self._place.platform.replayable(self._run, inputs)
                    # While somebody else captures it is the run itself, for this time.
                    self._replay = None if replay == self._run else replay
            results: list[Tensor] = replay(inputs)
        return results

    def profile(self, inputs: Sequence[Tensor]) -> list[float]:
        """Runs once, step by step; the time of each in ms."""
        place = self._place
        with torch.no_grad(), place.platform.guard(place.device):
            watch = place.platform.stopwatch(place.device)
            self._run(inputs, watch.mark)
            return watch.intervals()

    def _run(self, inputs: Sequence[Tensor], mark: Callable[[], Any] | None = None) -> list[Tensor]:
        place = self._place
        memory = FORMATS[place.layout]
        values: list[Any] = [
            *(
                in_format(
                    x.to(place.dtype)
                    if x.is_floating_point() and x.dtype is not torch.float64
                    else x,
                    memory,
                )
                for x in inputs
            ),
            *self._constants,
        ]
        values += [None] * (self._count - len(values))
        if mark is not None:
            mark()
        for step, given, made, free in self._steps:
            values[made] = step([values[i] for i in given])
            for i in free:
                values[i] = None
            if mark is not None:
                mark()
        return [values[i] for i in self._outputs]
