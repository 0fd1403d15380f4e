"""Tuning networks: what is chosen by what was measured, within budgets, and what is kept."""

import itertools
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import BudgetError
from ai3.explanation.exact import elements
from ai3.tuning import choose, database, fit, measure, network, race, work
from ai3.tuning.work import Contender

SAMPLE = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 32, 3, padding=1)
        self.fourth = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x).relu()).relu()
        x = self.fourth(self.third(x).relu()).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return Net().eval()


Takes = Callable[[Contender], float]


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Takes], list[str]]]:
    """Has contenders take what a function says, without running them; gives the problems that are
    then measured, each as its operation."""

    def install(seconds: Takes) -> list[str]:
        met: list[str] = []
        known: dict[tuple[str, str], Contender] = {}

        def invented(places: Any, *_: Any) -> dict[str, race.Lanes]:
            lanes = {
                key: {name: race.Lane([seconds(known[key, name])]) for name in names}
                for key, names in places.items()
            }
            return {"apart": lanes}

        real = measure.measure

        def noted(problems: measure.Problems, *rest: Any) -> Any:
            for key, of in problems.contenders.items():
                met.append(of[0].op)
                known.update({(key, contender.algorithm): contender for contender in of})
            return real(problems, *rest)

        monkeypatch.setattr(work, "HOPELESS", 1e9)
        monkeypatch.setattr(race, "race", invented)
        monkeypatch.setattr(measure, "measure", noted)
        return met

    yield install


def prefers(*algorithms: str) -> Takes:
    """The first is the fastest, then the next; all others are slow; the more the longer it is
    estimated to take, so that layouts are chosen as ever."""

    def seconds(contender: Contender) -> float:
        order = [*algorithms, contender.algorithm].index(contender.algorithm)
        return 1e-6 * (1 + order) * (1 if contender.op == "conv2d" else 2)

    return seconds


def algorithms(plan: "ai3.Plan | None") -> dict[str, str]:
    assert plan is not None
    return {node.module: node.algorithm for node in plan.nodes if node.op == "conv2d"}


def test_a_model_runs_what_was_the_fastest(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(prefers("gemm"))
    model = ai3.swap_backend(net)
    tuned = model.tune(SAMPLE, check=False)
    assert set(algorithms(tuned.plan).values()) == {"gemm"}
    assert {n.algorithm for n in model.graph_for(SAMPLE).nodes if n.op == "conv2d"} == {"gemm"}
    assert torch.allclose(model(SAMPLE), net(SAMPLE), atol=1e-5)
    # Another model of the same problems, and another process, take the same by "default".
    other = ai3.swap_backend(net)
    assert set(algorithms(other.plan(SAMPLE)).values()) == {"gemm"}


def test_each_problem_is_measured_once(net: nn.Module, takes: Callable[[Takes], list[str]]) -> None:
    met = takes(prefers("gemm"))
    tuned = ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert (tuned.measured, tuned.known) == (len(met), 0)
    with database.connected(database.path(), "ro") as connection:
        query = "SELECT problem FROM measured WHERE op = 'conv2d' AND algorithm = 'direct'"
        problems = [problem for (problem,) in connection.execute(query)]
    # In each layout; the third and the fourth are the same.
    assert len(problems) == len(set(problems)) == met.count("conv2d")
    shapes = {re.search(r"by float32\((.*?)\)", problem)[1] for problem in problems}  # type: ignore[index]
    assert shapes == {"16, 3, 3, 3", "32, 16, 3, 3", "32, 32, 3, 3"}
    again = ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert (again.measured, again.known) == (0, len(met))
    assert not tuned.plan.compare(again.plan)  # type: ignore[union-attr, arg-type]


def test_what_was_chosen_by_name_is_left(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(prefers("gemm"))
    model = ai3.swap_backend(net, {"conv2d": {"second": "smm", "*": "default"}})
    tuned = model.tune(SAMPLE, check=False)
    assert algorithms(tuned.plan) == {
        "first": "gemm",
        "second": "smm",
        "third": "gemm",
        "fourth": "gemm",
    }


def test_the_choice_is_a_selector_for_both_functions(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(prefers("gemm"))
    expected = net(SAMPLE)
    tuned = ai3.tune(net, SAMPLE, check=False)
    assert type(net.first) is nn.Conv2d
    assert dict(tuned) == {name: ai3.Conv2dAlgorithms("gemm") for name in algorithms(tuned.plan)}
    model = ai3.swap_backend(net, tuned)
    assert not model.plan(SAMPLE).compare(tuned.plan)  # type: ignore[arg-type]
    ai3.swap_conv2d(net, tuned)
    assert {row.algorithm for row in ai3.swapped(net)} == {"gemm"}
    assert torch.allclose(net(SAMPLE), expected, atol=1e-5)
    assert torch.allclose(model(SAMPLE), expected, atol=1e-5)


def test_gradients_are_measured_where_they_are_asked_for(
    net: nn.Module, takes: Callable[[Takes], list[str]], tmp_path: Path
) -> None:
    met = takes(prefers("direct"))
    tuned = ai3.tune(net, SAMPLE, check=False, gradients=True)
    assert {"conv2d", "conv2d_grad_input", "conv2d_grad_weight"} <= set(met)
    assert set(tuned.values()) == {ai3.Conv2dAlgorithms("direct", "direct", "direct")}
    assert tuned.in_place is not None
    tuned.in_place.save(tmp_path / "plan.json")
    ai3.swap_conv2d(net, plan=tmp_path / "plan.json")
    assert {row.grad_weight for row in ai3.swapped(net)} == {"direct"}
    ai3.swap_conv2d(net, tuned)
    net(SAMPLE).sum().backward()
    assert net.first.weight.grad is not None


class Branches(nn.Module):
    """No graph of it can be found: its flow depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return y if float(y.sum()) > 0 else -y


def test_a_network_that_does_not_convert_is_tuned_in_place(
    takes: Callable[[Takes], list[str]],
) -> None:
    takes(prefers("gemm"))
    module = Branches().eval()
    tuned = ai3.tune(module, SAMPLE, check=False)
    assert tuned.plan is None and tuned["first"].forward == "gemm"
    with pytest.raises(ValueError, match="budgets are for networks that swap_backend converts"):
        ai3.tune(module, SAMPLE, memory="2x")
    with pytest.raises((ai3.errors.UntraceableError, ai3.errors.UnsupportedCallableError)):
        ai3.swap_backend(module, tuned)
    ai3.swap_conv2d(module, tuned)
    assert module.first.algorithm == "gemm"


def test_two_runs_from_empty_caches_agree(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(lambda contender: 1e-6 * (1 + len(contender.algorithm)))
    first = ai3.tune(net, SAMPLE, check=False)
    ai3.tuning.clear()
    second = ai3.tune(net, SAMPLE, check=False)
    assert first.plan is not None and second.plan is not None
    assert not first.plan.compare(second.plan)
    assert dict(first) == dict(second)


def test_a_run_is_the_same_before_and_after_others_were_tuned(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    model = ai3.swap_backend(net)
    expected = model(SAMPLE)
    takes(prefers("gemm"))
    ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert torch.equal(model(SAMPLE), expected)


def test_tuned_is_kept_only_where_it_is_not_slower(
    net: nn.Module, takes: Callable[[Takes], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(prefers("smm"))
    untuned = ai3.swap_backend(net).plan(SAMPLE)
    times = {"untuned": 1e-3, "tuned": 1.1e-3}
    monkeypatch.setattr(choose.Session, "compare", lambda *_: (times, "apart"))
    model = ai3.swap_backend(net)
    tuned = model.tune(SAMPLE)
    assert not tuned.kept and not model.plan(SAMPLE).compare(untuned)
    assert (tuned.before_ms, tuned.after_ms) == (1.0, 1.0)
    assert "kept, as what was measured is not faster" in str(tuned)
    times["tuned"] = 0.5e-3
    tuned = model.tune(SAMPLE)
    assert tuned.kept and set(algorithms(model.plan(SAMPLE)).values()) == {"smm"}
    assert "(2.00x)" in str(tuned)


def test_ctrl_c_keeps_what_was_found(
    net: nn.Module, takes: Callable[[Takes], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(prefers("winograd"))
    invented, count = measure.measure, itertools.count()

    def stopped(*arguments: Any) -> Any:
        if next(count) == 1:
            raise KeyboardInterrupt
        return invented(*arguments)

    monkeypatch.setattr(measure, "measure", stopped)
    model = ai3.swap_backend(net)
    tuned = model.tune(SAMPLE, check=False)
    assert tuned.stopped and tuned.measured > 0
    assert "winograd" in algorithms(tuned.plan).values()
    assert next(count) == 2
    assert torch.allclose(model(SAMPLE), net(SAMPLE), atol=1e-5)


def test_time_that_is_up_stops_it_after_a_problem(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(prefers("gemm"))
    tuned = ai3.swap_backend(net).tune(SAMPLE, seconds=1e-9, check=False)
    everything = ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert tuned.stopped and not everything.stopped
    assert 0 < tuned.measured < everything.measured + everything.known


def test_a_folder_that_cannot_be_written_is_one_warning(
    net: nn.Module, takes: Callable[[Takes], list[str]], cache: Path
) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    takes(prefers("gemm"))
    model = ai3.swap_backend(net)
    with pytest.warns(RuntimeWarning, match="holds for this process alone") as met:
        tuned = model.tune(SAMPLE, check=False)
    assert len(met) == 1
    assert set(algorithms(tuned.plan).values()) == {"gemm"}
    assert set(algorithms(ai3.swap_backend(net).plan(SAMPLE)).values()) == {"gemm"}


@pytest.mark.skipif("os.getuid() == 0", reason="nothing is read-only for root")
def test_a_read_only_folder_is_read(net: nn.Module, takes: Any, cache: Path) -> None:
    takes(prefers("gemm"))
    ai3.swap_backend(net).tune(SAMPLE, check=False)
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        database.renew()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert set(algorithms(ai3.swap_backend(net).plan(SAMPLE)).values()) == {"gemm"}
    finally:
        cache.chmod(stat.S_IRWXU)


def test_an_algorithm_of_the_users_is_measured_and_not_kept(
    takes: Callable[[Takes], list[str]], forgotten: None
) -> None:
    @ai3.algorithm("conv2d", "own")
    class Own:
        def plan(self, problem: Any, weights: Any) -> Any:
            def run(inputs: Any, output: Any, workspace: Any) -> None:
                output[...] = 1

            return run

        def cost(self, problem: Any) -> float:
            return 1e5

    takes(prefers("own"))
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1)).eval()
    model = ai3.swap_backend(module)
    model.tune(SAMPLE, check=False)
    assert torch.equal(model(SAMPLE), torch.ones(1, 16, 24, 24))
    with database.connected(database.path(), "ro") as connection:
        names = {name for (name,) in connection.execute("SELECT algorithm FROM measured")}
    assert "own" not in names and "direct" in names


# Budgets.


def combinations(plan: ai3.Plan, names: "list[str]") -> Iterator[ai3.Plan]:
    convs = [node.name for node in plan.nodes if node.op == "conv2d"]
    for taken in itertools.product(names, repeat=len(convs)):
        chosen = dict(zip(convs, taken, strict=True))
        nodes = [
            replace(node, algorithm=chosen.get(node.name, node.algorithm)) for node in plan.nodes
        ]
        yield replace(plan, parts=(replace(plan.parts[0], nodes=tuple(nodes)),))


NAMES = ["direct", "winograd f2", "winograd f4", "gemm"]
TIMES = {"winograd f4": 1e-6, "winograd f2": 2e-6, "gemm": 2.5e-6, "direct": 3e-6}


def by_name(contender: Contender) -> float:
    """A little different for each problem, so that there is one best choice."""
    size = sum(spec.bytes for spec in contender.inputs) % 977
    return TIMES.get(contender.algorithm, 1e-4) * (1 + size / 1e4)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_memory_is_kept_and_the_choice_is_the_fastest_of_all(
    net: nn.Module, takes: Callable[[Takes], list[str]], share: float
) -> None:
    takes(by_name)
    model = ai3.swap_backend(net)
    free = model.tune(SAMPLE, check=False).plan
    assert free is not None
    every = [(network.footprint(model, p).total, p) for p in combinations(free, NAMES)]
    sizes = sorted(held for held, _ in every)
    budget = sizes[int(share * len(sizes))]
    other = ai3.swap_backend(net)
    tuned = other.tune(SAMPLE, check=False, memory=int(budget))
    assert tuned.plan is not None and tuned.bytes is not None and tuned.bytes <= budget
    assert network.footprint(other, tuned.plan).total == tuned.bytes
    ways = fit._Ways(model, free, named=False).of
    cost = {name: {way.algorithm: way.seconds for way in of} for name, of in ways.items()}

    def seconds(plan: ai3.Plan) -> float:
        return sum(cost[n.name][n.algorithm] for n in plan.nodes if n.op == "conv2d")

    best = min(seconds(plan) for held, plan in every if held <= budget)
    assert seconds(tuned.plan) <= best * (1 + 1e-9)
    assert tuned.gap == 0
    slower = 1e3 * (seconds(tuned.plan) - seconds(free))
    assert tuned.cost_ms == pytest.approx(slower, abs=1e-9)


def test_a_multiple_of_the_weights_is_a_budget(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(by_name)
    model = ai3.swap_backend(net)
    size = network.weight_bytes(model.graph)
    tuned = model.tune(SAMPLE, check=False, memory="7.5x")
    assert tuned.bytes is not None and tuned.bytes <= 7.5 * size


def test_impossible_memory_says_what_needs_most_and_changes_nothing(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(by_name)
    model = ai3.swap_backend(net)
    before = model.plan(SAMPLE)
    with pytest.raises(BudgetError, match=r"the least that is possible is (\d+) bytes.* needs \d"):
        model.tune(SAMPLE, check=False, memory=1000)
    assert not before.compare(before)
    assert torch.allclose(model(SAMPLE), net(SAMPLE), atol=1e-5)


def test_the_least_that_is_told_is_possible(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(by_name)
    model = ai3.swap_backend(net)
    with pytest.raises(BudgetError) as error:
        model.tune(SAMPLE, check=False, memory=1)
    least = int(str(error.value).partition("possible is ")[2].partition(" ")[0])
    tuned = model.tune(SAMPLE, check=False, memory=least)
    assert tuned.bytes == least


def test_accuracy_is_kept_and_the_choice_is_the_fastest_of_all(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    seconds = {"direct": 6e-6, "winograd f4": 5e-6, "direct bf16": 2e-6, "winograd f4 bf16": 1e-6}
    takes(lambda contender: seconds.get(contender.algorithm, 1e-4))
    # Of few outputs errors are as chance has them.
    layers = [net.get_submodule(name) for name in ("first", "second", "third", "fourth")]
    images = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).eval()
    model = ai3.swap_backend(images)
    plan = model.tune(SAMPLE, check=False).plan
    assert plan is not None
    exact = network.exact(model, [SAMPLE])
    errors = {}
    for each in combinations(plan, [*seconds]):
        outputs = network.outputs_of(network.by(model, each), [SAMPLE])
        chosen = tuple(node.algorithm for node in each.nodes if node.op == "conv2d")
        errors[chosen] = network.distance(outputs, exact)
    for budget in (sorted(errors.values())[len(errors) * k // 5] for k in (1, 2, 3, 4)):
        other = ai3.swap_backend(images)
        tuned = other.tune(SAMPLE, check=False, accuracy=budget)
        assert tuned.error is not None and tuned.error <= budget
        assert network.distance(network.outputs_of(other, [SAMPLE]), exact) == tuned.error
        taken = sum(seconds[name] for name in algorithms(tuned.plan).values())
        best = min(sum(seconds[n] for n in names) for names, e in errors.items() if e <= budget)
        # Squares of errors add up only nearly.
        assert taken <= 1.15 * best


def test_bfloat16_is_spent_only_within_a_budget_of_accuracy(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(lambda contender: 1e-6 if contender.algorithm == "direct bf16" else 1e-4)
    free = ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert not any(name.endswith("bf16") for name in algorithms(free.plan).values())
    loose = ai3.swap_backend(net).tune(SAMPLE, check=False, accuracy=0.05)
    assert all(name.endswith("bf16") for name in algorithms(loose.plan).values())
    assert loose.error is not None and 1e-5 < loose.error <= 0.05
    assert loose.cost_ms is not None and loose.cost_ms < 0 and "the budgets gain" in str(loose)
    some = ai3.swap_backend(net).tune(SAMPLE, check=False, accuracy=loose.error / 3)
    found = [name.endswith("bf16") for name in algorithms(some.plan).values()]
    assert any(found) and not all(found)
    again = ai3.swap_backend(net).tune(SAMPLE, check=False)
    assert not any(name.endswith("bf16") for name in algorithms(again.plan).values())


def test_a_network_of_bfloat16_within_budgets(net: nn.Module) -> None:
    model = ai3.swap_backend(net.bfloat16())
    sample = SAMPLE.bfloat16()
    tuned = model.tune(sample, seconds=2.0, accuracy=0.05, memory="50x", check=False)
    assert tuned.error is not None and 1e-4 < tuned.error <= 0.05
    exact = ai3.swap_backend(net.double())(sample.double())
    assert (model(sample).double() - exact).norm() <= 0.05 * exact.norm()
    assert tuned.error == pytest.approx(
        network.distance([elements(model(sample))], [elements(exact)])
    )


def test_impossible_accuracy_says_how_far_it_is(
    net: nn.Module, takes: Callable[[Takes], list[str]]
) -> None:
    takes(by_name)
    model = ai3.swap_backend(net)
    with pytest.raises(BudgetError, match=r"accuracy=1e-12 cannot be kept: .* is the least exact"):
        model.tune(SAMPLE, check=False, accuracy=1e-12)
    tuned = model.tune(SAMPLE, check=False, accuracy=1e-12, against="float32")
    assert tuned.error is not None and tuned.error <= 1e-12


@pytest.mark.parametrize(
    "how, match",
    [
        ({"accuracy": 0}, "above 0"),
        ({"accuracy": "1e-5"}, "above 0"),
        ({"against": "float16"}, "'float64' or 'float32'"),
        ({"memory": "1.5"}, "multiple of the weights"),
        ({"memory": -1}, "multiple of the weights"),
        ({"memory": 1.5}, "multiple of the weights"),
        ({"seconds": 0}, "seconds must be above 0"),
    ],
)
def test_budgets_that_are_none(net: nn.Module, how: "dict[str, Any]", match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ai3.swap_backend(net).tune(SAMPLE, **how)


def test_inputs_that_do_not_fit(net: nn.Module) -> None:
    model = ai3.swap_backend(net)
    for network_ in (model, net):
        with pytest.raises(ValueError, match="go through the network"):
            ai3.tune(network_, torch.randn(1, 4, 24, 24))
        with pytest.raises(ValueError, match="needs the network's inputs"):
            ai3.tune(network_)
    with pytest.raises(TypeError, match="expected a torch network"):
        ai3.tune(3, SAMPLE)


def test_it_measures(net: nn.Module) -> None:
    """Nothing invented: the fastest of what was measured is what is chosen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = ai3.swap_backend(net)
        tuned = model.tune(SAMPLE, seconds=3.0)
        assert tuned.measured > 0 and tuned.plan is not None
        with database.connected(database.path(), "ro") as connection:
            query = "SELECT op, threads, seconds, samples, packed FROM measured"
            rows = connection.execute(query).fetchall()
        assert {"conv2d", "linear", "mean"} <= {op for op, *_ in rows}
        for _, used, seconds, samples, packed in rows:
            assert used == 1 and 1e-7 < seconds < 1 and samples >= 1 and packed >= 0
        assert torch.allclose(model(SAMPLE), net(SAMPLE), atol=1e-5)
    finally:
        torch.set_num_threads(threads)
