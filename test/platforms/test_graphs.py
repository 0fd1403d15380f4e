"""The capture of a network's run, with a stand-in for what of torch.cuda it needs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ai3.platforms.cuda import graphs


class Fake:
    """Writes down what happens; a graph's replay is the run again, into the same memory."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.capturing = False
        self.stream = SimpleNamespace(
            wait_stream=lambda other: self.log.append("wait for a stream"),
            wait_event=lambda event: self.log.append("wait for an event"),
        )
        self.replays: Any = None

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def current_stream(self) -> Any:
        return self.stream

    def Stream(self) -> Any:  # noqa: N802
        return self.stream

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        self.log.append("on a stream")
        yield

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.replays())

    @contextmanager
    def graph(self, graph: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.log.append("capture")
        self.capturing = True
        yield
        self.capturing = False

    def Event(self, enable_timing: bool = False) -> Any:  # noqa: N802
        made = SimpleNamespace(at=len(self.log))
        made.record = lambda: self.log.append("record")
        made.synchronize = lambda: self.log.append("synchronize")
        made.elapsed_time = lambda other: float(other.at - made.at)
        return made


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    for name in (
        "is_current_stream_capturing",
        "current_stream",
        "Stream",
        "CUDAGraph",
        "graph",
        "Event",
    ):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "stream", fake.on)
    return fake


def test_a_run_is_captured_once_and_replayed(cuda: Fake) -> None:
    runs: list[list[Tensor]] = []
    memory = torch.zeros(3)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        runs.append(list(inputs))
        memory.copy_(inputs[0] * 2)
        return [memory]

    replay = graphs.captured(run, [torch.ones(3)])
    assert len(runs) == 3 and cuda.log.count("capture") == 1  # two to warm up
    fixed = runs[-1][0]
    cuda.replays = lambda: memory.copy_(fixed * 2)
    first = replay([torch.full((3,), 5.0)])
    second = replay([torch.full((3,), 7.0)])
    assert len(runs) == 3
    # Results are nobody else's memory, and a run waits for the one before it.
    assert first[0].tolist() == [10.0] * 3 and second[0].tolist() == [14.0] * 3
    assert cuda.log[-3:] == ["record", "wait for an event", "record"]


def test_within_another_capture_it_is_a_part_of_that(cuda: Fake) -> None:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        return [inputs[0] + 1]

    replay = graphs.captured(run, [torch.zeros(2)])
    cuda.replays = lambda: pytest.fail("it must not be replayed")
    cuda.capturing = True
    assert replay([torch.ones(2)])[0].tolist() == [2.0, 2.0]
    assert graphs.captured(run, [torch.zeros(2)]) is run


def test_times_are_by_events(cuda: Fake) -> None:
    watch = graphs.EventWatch()
    for pause in (0, 2, 1):
        cuda.log += ["work"] * pause
        watch.mark()
    assert watch.intervals() == [3.0, 2.0]
    assert cuda.log[-1] == "synchronize"
