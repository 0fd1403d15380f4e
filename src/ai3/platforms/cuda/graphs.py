"""CUDA graphs: a network's whole run as one, and times by events."""

from collections.abc import Sequence
from itertools import pairwise
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from ai3.platforms.platform import Replayed, Stopwatch

_WARM_UPS = 2
"""Runs before a capture, in which libraries and Triton make what they make once."""


class EventWatch(Stopwatch):
    """On the current stream."""

    def __init__(self) -> None:
        self._events: list[Any] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def intervals(self) -> list[float]:
        if self._events:
            self._events[-1].synchronize()
        return [float(a.elapsed_time(b)) for a, b in pairwise(self._events)]


def captured(run: Replayed, inputs: Sequence[Tensor]) -> Replayed:
    """The run as a graph that is replayed for other inputs of these shapes, which are copied to
    where it reads, and its outputs from where it writes. While somebody else captures, the run as
    it is, which becomes a part of that graph."""
    if torch.cuda.is_current_stream_capturing():
        return run
    return _Captured(run, inputs)


class _Captured:
    # What is kept is written again later, which is not for tensors of inference mode.
    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, run: Replayed, inputs: Sequence[Tensor]) -> None:
        self._run = run
        self._inputs = [x.clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                run(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on with CUDA meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = run(self._inputs)
        self._done: Any = None
        self._lock = Lock()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if torch.cuda.is_current_stream_capturing():
            return self._run(inputs)
        with self._lock:
            return self._replayed(inputs)

    def _replayed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        if self._done is not None:
            # Another stream may still be at the latest run, which has the same memory.
            torch.cuda.current_stream().wait_event(self._done)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        results = [output.clone() for output in self._outputs]
        self._done = torch.cuda.Event()
        self._done.record()
        return results
