"""Tuning torch networks whose weights are on a device of a platform's: the algorithms of each
convolution race there, and what they took is what "default" then goes by."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ai3.errors import SampleError
from ai3.machine import APART
from ai3.platforms import measured, platform_of
from ai3.platforms.task import FORMATS, Array, Task
from ai3.selector import Conv2dAlgorithms
from ai3.torch.device_layer import in_format
from ai3.torch.swap_modules import convolutions_met
from ai3.tuning import race
from ai3.tuning.tuned import Tuned

if TYPE_CHECKING:
    from ai3.tuning.choose import Session

_CALLS = 5
"""In one sample: a single one is little beside what telling the time takes."""
_ROUNDS = 8
"""That are made whatever the time."""


def tune(session: "Session", net: nn.Module, inputs: Sequence[Tensor], gradients: bool) -> Tuned:
    """The fastest algorithms of the network's convolutions on the device. Raises ValueError for
    inputs that do not go through it."""
    try:
        tasks = _tasks(net, inputs, gradients)
    except SampleError as error:
        raise ValueError(str(error)) from error
    device = next(net.parameters()).device
    platform = platform_of(device.type)
    assert platform is not None
    with torch.no_grad(), platform.guard(device):
        found = _measured(session, [t for of in tasks.values() for t in of.values()])
        chosen = {
            name: Conv2dAlgorithms(
                **{part: _fastest(found.times.get(t.key, {})) for part, t in of_module.items()}
            )
            for name, of_module in tasks.items()
        }
    told = session.told(Tuned(None))
    return replace(told, modules=chosen, measured=found.measured, known=found.known)


def _tasks(net: nn.Module, inputs: Sequence[Tensor], gradients: bool) -> dict[str, dict[str, Task]]:
    """Of each convolution of images what is to be computed, forward and back."""
    # A gradient is there where it is asked for by a name.
    choice = Conv2dAlgorithms("any", *(("any", "any") if gradients else ()))
    return {
        name: {part: task for part, task in asked.items() if isinstance(task, Task)}
        for name, _, asked in convolutions_met(net, inputs, choice)
    }


@dataclass
class _Found:
    """By keys of problems what algorithms take, in seconds, and of how many that was measured now,
    and known before."""

    times: dict[str, Mapping[str, float]] = field(default_factory=dict)
    measured: int = 0
    known: int = 0


def _measured(session: "Session", tasks: Sequence[Task]) -> _Found:
    found, pending = _Found(), dict[str, Task]()
    for task in tasks:
        known = measured.seconds_of(task.platform, task.problem)
        if known.keys() >= set(_contenders(task)):
            found.known += task.key not in found.times
            found.times[task.key] = known
        else:
            pending.setdefault(task.key, task)
    for i, (key, task) in enumerate(pending.items()):
        if i and not session.left():
            session.stopped = True
            break
        lanes = _raced(task, session.left() / (len(pending) - i))
        found.times[key] = times = {name: lane.seconds for name, lane in lanes.items()}
        found.measured += 1
        try:
            samples = max(len(lane.samples) for lane in lanes.values())
            measured.keep(task.platform, task.problem, times, samples)
        except OSError as error:
            warnings.warn(f"what is measured is not kept: {error}", RuntimeWarning, stacklevel=5)
    return found


def _contenders(task: Task) -> list[str]:
    return [name for name in task.platform.algorithms(task.op) if not task.refusal(name)]


def _fastest(times: Mapping[str, float]) -> str:
    return min(times, key=times.__getitem__) if times else "default"


def _raced(task: Task, seconds: float) -> dict[str, race.Lane]:
    """What each of the algorithms that can do it takes, on the current device."""
    samples = {name: _sampled(task, name) for name in _contenders(task)}
    end, runs = time.perf_counter() + seconds, 0

    def run(names: Mapping[str, str]) -> dict[str, float]:
        nonlocal runs
        runs += 1
        return {task.op: samples[names[task.op]]()}

    def is_over() -> bool:
        return runs > _ROUNDS * len(samples) and time.perf_counter() > end

    def watched(block: Callable[[], None]) -> tuple[None, str]:
        block()
        return None, APART  # the device's state is not known

    return race.race({task.op: [*samples]}, run, watched, is_over)[APART][task.op]


def _sampled(task: Task, name: str) -> Callable[[], float]:
    """What gives the seconds of a run."""
    platform, memory = task.platform, FORMATS[task.layout_for(name)]
    device = torch.device(platform.device)

    def filled(array: Array | None) -> Any:
        if array is None:
            return None
        made = torch.randn(array.shape, dtype=getattr(torch, array.dtype), device=device)
        return in_format(made, memory, platform.alignment)

    planned = task.plan(name, [filled(weight) for weight in task.weights])
    given = [filled(x) for x in task.inputs]
    output = None if planned.allocates else filled(planned.output)
    size = planned.workspace_bytes
    workspace = torch.empty(size, dtype=torch.uint8, device=device) if size else None

    def sample() -> float:
        watch = platform.stopwatch(device)
        watch.mark()
        for _ in range(_CALLS):
            planned.run(given, output, workspace)
        watch.mark()
        return watch.intervals()[0] / 1e3 / _CALLS

    return sample
