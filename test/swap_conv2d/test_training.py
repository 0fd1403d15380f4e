"""The training examples, run as they are."""

import re
import sys

import pytest

from example import ddp, train


def test_digits_are_learned_as_by_torch(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("train"))
    monkeypatch.setattr(sys, "argv", ["train", "--epochs", "2"])
    train.main()
    printed = capsys.readouterr().out
    (gap,) = re.findall(r"differ by (\S+) at most", printed)
    assert float(gap) < 1e-4
    accuracies = [float(value) for value in re.findall(r"accuracy (\S+)%", printed)]
    assert len(accuracies) == 2 and min(accuracies) > 90
    assert train.CHART.stat().st_size > 10_000


def test_two_processes_have_the_gradients_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    ddp.main()
    found = re.findall(r"(gradients|weights) differ by (\S+)", capsys.readouterr().out)
    assert [name for name, _ in found] == ["gradients", "weights"]
    assert all(float(value) < 1e-5 for _, value in found)
