"""Plans: what they hold, that they do it again exactly, and where they do not fit."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import PlanError
from ai3.plan import Plan
from runners import networks


class Residual(nn.Module):
    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.depthwise = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)
        self.head = nn.Linear(4 * channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        x = (self.second(x) + x).relu()
        x = self.depthwise(self.expand(x).relu()).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture
def network() -> nn.Module:
    return Residual().eval()


SAMPLE = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))


def test_a_plan_says_what_runs(network: nn.Module) -> None:
    model = ai3.swap_backend(network, {"conv2d": {"second": "winograd f2", "*": "default"}})
    plan = model.plan(SAMPLE)
    chosen = {node.module: node for node in plan.nodes if node.module}
    assert chosen["second"].algorithm == "winograd f2"
    assert all(node.algorithm not in ("default", "guess") for node in plan.nodes)
    assert chosen["depthwise"].expands and chosen["expand"].algorithm == "direct"
    assert chosen["first"].ms and chosen["first"].writes[1] == "blocked"
    assert plan.machine.keys() == {"processor", "level", "kernels", "threads"}
    for node in model.graph_for(SAMPLE).nodes:
        if node.op == "conv2d":
            assert chosen[node.module].algorithm == node.algorithm


def test_a_file_reads_as_it_was_and_has_a_line_for_each_node(
    network: nn.Module, tmp_path: Path
) -> None:
    plan = ai3.swap_backend(network).plan(SAMPLE)
    plan.save(tmp_path / "a.plan.json")
    again = ai3.load_plan(tmp_path / "a.plan.json")
    assert not plan.compare(again)
    again.save(tmp_path / "b.plan.json")
    lines = (tmp_path / "a.plan.json").read_text().splitlines()
    assert lines == (tmp_path / "b.plan.json").read_text().splitlines()
    assert sum('"algorithm"' in line for line in lines) == len(plan.nodes)
    json.loads("\n".join(lines))
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def all_direct(plan: Plan) -> Plan:
    nodes = [replace(node, algorithm="direct") for node in plan.parts[0].nodes]
    return replace(plan, parts=(replace(plan.parts[0], nodes=tuple(nodes)),))


def test_a_plan_is_done_again_exactly(network: nn.Module, tmp_path: Path) -> None:
    model = ai3.swap_backend(network, {"conv2d": {"second": "winograd f6", "first": "gemm"}})
    expected = model(SAMPLE)
    model.plan().save(tmp_path / "plan.json")
    again = ai3.swap_backend(network, plan=tmp_path / "plan.json")
    assert torch.equal(again(SAMPLE), expected)
    assert not again.plan().compare(model.plan())
    other = ai3.swap_backend(network, plan=all_direct(model.plan()))
    assert not torch.equal(other(SAMPLE), expected)
    assert {n.algorithm for n in other.graph_for(SAMPLE).nodes if n.op == "conv2d"} == {"direct"}


def test_a_plan_holds_for_a_loaded_model_and_for_copies(network: nn.Module, tmp_path: Path) -> None:
    model = ai3.swap_backend(network)
    plan = all_direct(model.plan(SAMPLE))
    model.save(tmp_path / "model")
    loaded = ai3.load(tmp_path / "model", plan=plan)
    for each in (loaded, pickle.loads(pickle.dumps(loaded))):
        assert not each.plan(SAMPLE).compare(plan)


def test_the_algorithms_of_a_plan_hold_for_other_sizes(network: nn.Module) -> None:
    model = ai3.swap_backend(network, {"conv2d": {"second": "winograd f2", "first": "gemm"}})
    again = ai3.swap_backend(network, plan=model.plan(SAMPLE))
    other = torch.randn(2, 3, 40, 56)
    assert torch.equal(again(other), model(other))
    used = {n.module: n.algorithm for n in again.graph_for(other).nodes}
    assert (used["first"], used["second"]) == ("gemm", "winograd f2")


def test_layouts_and_fusions_of_a_plan_are_done_again(network: nn.Module) -> None:
    model = ai3.swap_backend(network)
    plan = model.plan(SAMPLE)
    dense = []
    for node in plan.parts[0].nodes:
        chosen = dict.fromkeys(node.chosen, "dense")
        reads = tuple((dtype, "dense") for dtype, _ in node.reads)
        writes = (node.writes[0], "dense")
        dense.append(replace(node, reads=reads, writes=writes, chosen=chosen, expands=""))
    plan = replace(plan, parts=(replace(plan.parts[0], nodes=tuple(dense)),))
    model.use(plan)
    graph = model.graph_for(SAMPLE)
    assert {spec.layout for spec in graph.specs.values()} == {"dense"}
    assert "expand_depthwise" not in {node.op for node in graph.nodes}
    assert torch.allclose(model(SAMPLE), network(SAMPLE), atol=1e-5)
    assert not model.plan().compare(plan)


FEW = ("mobilenet", "shufflenetv2", "squeezenet")


@pytest.mark.parametrize(
    "name",
    [n if n in FEW else pytest.param(n, marks=pytest.mark.thorough) for n in networks.TORCHVISION],
)
def test_networks_do_their_plans_again(name: str, tmp_path: Path) -> None:
    loaded = networks.load(name).module
    sample = torch.randn(1, *networks.SMALL[name][1:])
    model = ai3.swap_backend(loaded)
    expected = model(sample)
    model.plan().save(tmp_path / "plan.json")
    again = ai3.swap_backend(loaded, plan=tmp_path / "plan.json")
    assert torch.equal(again(sample), expected)
    assert not again.plan().compare(model.plan())


def test_a_plan_of_bfloat16_is_done_again(network: nn.Module) -> None:
    model = ai3.swap_backend(network, precision="bfloat16")
    expected = model(SAMPLE)
    again = ai3.swap_backend(network, plan=model.plan())
    assert torch.equal(again(SAMPLE), expected)


def test_a_plan_for_modules_is_done_by_swap_conv2d(network: nn.Module) -> None:
    model = ai3.swap_backend(network, {"conv2d": {"second": "winograd f2", "first": "gemm"}})
    ai3.swap_conv2d(network, plan=model.plan(SAMPLE))
    found = {row.name: row.algorithm for row in ai3.swapped(network)}
    assert (found["first"], found["second"]) == ("gemm", "winograd f2")
    assert found["depthwise"] == "direct"


def renamed(plan: Plan) -> Plan:
    first, *rest = plan.parts[0].nodes
    nodes = (replace(first, name="another", module="another"), *rest)
    return replace(plan, parts=(replace(plan.parts[0], nodes=nodes),))


def impossible(plan: Plan) -> Plan:
    nodes = [
        replace(node, algorithm="winograd") if node.module == "depthwise" else node
        for node in plan.parts[0].nodes
    ]
    return replace(plan, parts=(replace(plan.parts[0], nodes=tuple(nodes)),))


@pytest.mark.parametrize(
    "change, where",
    [
        (renamed, "another"),
        (impossible, "depthwise.*the channels are in groups of 1 for 1, not of multiples"),
        (lambda plan: replace(plan, precision="bfloat16"), "precision"),
        (lambda plan: replace(plan, parts=()), "0 graphs"),
        (lambda plan: replace(plan, kind="modules"), "for swap_conv2d"),
    ],
)
def test_a_plan_that_does_not_fit_says_where(
    network: nn.Module, change: Callable[[Plan], Plan], where: str
) -> None:
    model = ai3.swap_backend(network)
    plan = model.plan(SAMPLE)
    with pytest.raises(PlanError, match=where):
        model.use(change(plan))
    assert not model.plan(SAMPLE).compare(plan)


def test_a_plan_of_another_network_says_where(network: nn.Module) -> None:
    plan = ai3.swap_backend(network).plan(SAMPLE)
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    with pytest.raises(PlanError, match="the network has no node"):
        ai3.swap_backend(other, plan=plan)
    with pytest.raises(PlanError, match="the network has no convolution 'first'"):
        ai3.swap_conv2d(other, plan=plan)
    assert type(other[0]) is nn.Conv2d
    with pytest.raises(PlanError, match="the plan has nothing for 'more'"):
        network.more = nn.Conv2d(3, 3, 1)
        ai3.swap_conv2d(network, plan=plan)
    wider = Residual(64).eval()
    ai3.swap_backend(wider, plan=plan)  # the same nodes, which every algorithm of it can do


def test_a_plan_and_algorithms_are_not_given_both(network: nn.Module) -> None:
    plan = ai3.swap_backend(network).plan(SAMPLE)
    with pytest.raises(ValueError, match="not both"):
        ai3.swap_backend(network, {"conv2d": "direct"}, plan=plan)
    with pytest.raises(ValueError, match="not both"):
        ai3.swap_conv2d(network, "direct", plan=plan)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", '{"format": 2}', '{"format": 1, "parts": 3}', "\x00" * 10),
        '{"format": 1, "kind": "model", "precision": "float32", "machine": {}, "parts": [{}]}',
        '{"format": 1, "kind": "x", "precision": "float32", "machine": {}, "parts": []}',
    ],
)
def test_other_files_are_no_plans(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=r"plan\.json is (no plan|a plan of format)"):
        ai3.load_plan(tmp_path / "plan.json")


def test_an_algorithm_that_is_not_there_is_told(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    ai3.swap_backend(network).plan(SAMPLE).save(path)
    path.write_text(path.read_text().replace('"winograd"', '"winogard"'))
    with pytest.raises(PlanError, match=r"'winogard' for .*, which is no algorithm of conv2d"):
        ai3.load_plan(path)


def test_two_plans_are_compared(network: nn.Module) -> None:
    model = ai3.swap_backend(network)
    a = model.plan(SAMPLE)
    b = ai3.swap_backend(network, {"conv2d": {"second": "gemm"}}).plan(SAMPLE)
    found = {(d.node, d.what): (d.before, d.after) for d in a.compare(b)}
    assert found[("second", "algorithm")] == ("winograd", "gemm")
    assert a.compare(a) == []
    changed = renamed(a).compare(a)
    assert {(d.node, d.before is None, d.after is None) for d in changed} == {
        ("another", False, True),
        ("first", True, False),
    }


def test_a_model_that_was_not_called_has_no_plan(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="call the model first"):
        ai3.swap_backend(network).plan()


class Sorts(nn.Module):
    """Two graphs, between which torch runs what the framework does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.special.i1e(self.first(x).relu())
        return self.second(x).relu()


def test_a_model_of_which_torch_runs_some_nodes_has_a_plan(tmp_path: Path) -> None:
    network = Sorts().eval()
    model = ai3.swap_backend(network, {"conv2d": "gemm"}, unsupported="torch")
    plan = model.plan(SAMPLE)
    assert len(plan.parts) == 2
    again = ai3.swap_backend(network, unsupported="torch")
    again.use(plan)
    assert torch.equal(again(SAMPLE), model(SAMPLE))
    assert not again.plan(SAMPLE).compare(plan)
