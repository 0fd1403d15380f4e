"""AI3_LOG=choice tells each choice once, with its reason."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import ai3
from ai3 import choices


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    monkeypatch.setattr(choices, "_told", set())
    caplog.set_level(logging.INFO, "ai3.choice")
    return caplog.messages


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()


def test_of_a_model(heard: list[str], caplog: pytest.LogCaptureFixture) -> None:
    model = ai3.swap_backend(net(), {"conv2d": {"0": "smm", "*": "default"}})
    x = torch.randn(1, 16, 9, 9)
    model(x)
    model(x)
    (first, second) = caplog.messages
    assert first == "0 (conv2d of 1x16x9x9): smm, chosen by its name"
    algorithm = model.profile(x)[-1].algorithm
    assert second.startswith(f"2 (conv2d of 1x16x7x7): {algorithm}, estimated to take least of ")
    model(torch.randn(2, 16, 9, 9))  # another size is another choice
    assert len(caplog.messages) == 4


def test_of_modules_and_their_gradients(heard: list[str], caplog: pytest.LogCaptureFixture) -> None:
    network = net()
    ai3.swap_conv2d(network, {"0": "winograd", "*": "default"})
    x = torch.randn(1, 16, 9, 9)
    for _ in range(2):
        network(x).sum().backward()
    told = caplog.messages
    assert "0 (conv2d of 1x16x9x9): winograd, chosen by its name" in told
    assert any(text.startswith("2 (conv2d of 1x16x7x7): ") for text in told)
    assert any(text.startswith("2 (conv2d_grad_input of 1x8x7x7): ") for text in told)
    assert any(text.startswith("0 (conv2d_grad_weight of 1x16x9x9 and ") for text in told)
    assert len(told) == len(set(told))


def test_nothing_is_asked_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("told though nobody listens")

    monkeypatch.setattr(choices, "tell", fails)
    network = net()
    ai3.swap_backend(network)(torch.randn(1, 16, 9, 9))
    ai3.swap_conv2d(network)
    network(torch.randn(1, 16, 9, 9)).sum().backward()


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import ai3, numpy as np\n"
        "conv = ai3.layers.Conv2D(np.ones((16, 16, 3, 3), np.float32))\n"
        "ai3.Model([conv])(np.ones((1, 16, 9, 9), np.float32))\n"
    )
    own = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True)


def test_the_environment_asks() -> None:
    told = run(AI3_LOG="choice")
    assert told.returncode == 0 and told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert line.startswith("ai3.choice: conv2d_0 (conv2d of 1x16x9x9): ")
    assert run().stderr == ""
    assert "AI3_LOG may be choice, not 'choise'" in run(AI3_LOG="choise").stderr
