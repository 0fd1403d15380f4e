"""The bound on how long torch.export may try."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.torch import export
from ai3.torch.limit import TimeUp, limited


def test_what_takes_too_long_is_left() -> None:
    started = time.monotonic()
    with pytest.raises(TimeUp), limited("nothing", 0.3):
        while True:
            # What it runs may swallow exceptions; this is none.
            try:
                time.sleep(0.01)
            except Exception:
                continue
    assert time.monotonic() - started < 20
    # Nothing is raised any more.
    for _ in range(100):
        time.sleep(0.01)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_what_is_done_in_time_is_not_disturbed(seconds: float | None) -> None:
    with limited("nothing", seconds):
        total = sum(range(1000))
    assert total == 499500


def test_fewer_sizes_are_tried_next(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyExported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # torch.fx knows no number here.
            return self.conv(x) if int(x.shape[0]) > 0 else x

    tried = []
    real = export._exported

    def exported(module: nn.Module, samples: Sequence[Any], free: str) -> Any:
        tried.append(free)
        while free != "no size":  # for ever
            time.sleep(0.01)
        return real(module, samples, free)

    monkeypatch.setattr(export, "_exported", exported)
    for sizes in ("all sizes", "the batch's size"):
        monkeypatch.setitem(export.FREE, sizes, 0.5)
    net, x = OnlyExported(), torch.randn(1, 3, 8, 8)
    model = ai3.swap_backend(net, sample_input_shape=(1, 3, 8, 8))
    assert tried == ["all sizes", "the batch's size", "no size"]
    close = torch.testing.assert_close
    close(torch.as_tensor(model(x)), net(x).detach(), rtol=1e-4, atol=1e-4)
