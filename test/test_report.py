"""What a model tells of a run."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import ai3


@pytest.fixture
def model() -> ai3.Model:
    return ai3.swap_backend(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)),
        {"conv2d": "smm"},
    )


def test_every_node_with_its_figures(model: ai3.Model) -> None:
    report = model.report(torch.randn(2, 3, 8, 8))
    assert [node.name for node in report.nodes] == ["0", "2", "3"]
    assert [node.op for node in report.nodes] == ["conv2d", "flatten", "linear"]
    assert report.nodes[0].algorithm == "smm"
    assert report.nodes[0].shape == (2, 8, 6, 6)
    assert report.nodes[0].flops == 2 * 2 * 8 * 36 * 27
    assert report.nodes[2].flops == 2 * 2 * 5 * 288
    assert report.nodes[0].gflops == pytest.approx(report.nodes[0].flops / report.nodes[0].ms / 1e6)
    assert sum(map(report.share, report.nodes)) == pytest.approx(1)


def test_table_and_json_and_chart(model: ai3.Model, tmp_path: Path) -> None:
    model(torch.randn(1, 3, 8, 8))
    report = model.report()
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    for node in report.nodes:
        assert any(node.op in line and "x".join(map(str, node.shape)) in line for line in lines)
    document = json.loads(report.json())
    assert [row["name"] for row in document["nodes"]] == [node.name for node in report.nodes]
    assert document["ms"] == pytest.approx(sum(row["ms"] for row in document["nodes"]))
    assert document["threads"] == torch.get_num_threads()
    report.chart(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_needs_an_input(model: ai3.Model) -> None:
    with pytest.raises(ValueError, match="call the model first"):
        model.report()
