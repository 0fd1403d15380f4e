"""Which module gets which algorithm, and what is said of a selector that does not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import SelectionError, UnsupportedAlgorithmError, UntraceableError


class Crossed(nn.Module):
    """Convolutions used in another order than registered, one of them twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 4, 3)
        self.unused = nn.Conv2d(1, 1, 1)
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.relu(self.first(x)))
        result: Tensor = self.last(torch.relu(self.twice(x)))
        return result


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


def algorithms(module: nn.Module) -> dict[str, str | None]:
    return {
        name: getattr(m, "algorithm", None)
        for name, m in module.named_modules()
        if isinstance(m, nn.Conv2d)
    }


def chosen_by_backend(module: nn.Module, selector: Any, **options: Any) -> dict[str, str]:
    graph = ai3.swap_backend(module, {"conv2d": selector}, **options).graph
    return {node.module: node.algorithm for node in graph.nodes if node.op == "conv2d"}


def test_string_is_for_every_module() -> None:
    net = Crossed()
    ai3.swap_conv2d(net, "smm")
    assert set(algorithms(net).values()) == {"smm"}


def test_none_is_default() -> None:
    net = Crossed()
    ai3.swap_conv2d(net)
    assert set(algorithms(net).values()) == {"default"}


def test_sequence_follows_the_forward_pass() -> None:
    net = Crossed()
    wanted = {"first": "direct", "twice": "smm", "last": "default"}
    assert chosen_by_backend(net, ["direct", "smm", "default"]) == wanted
    ai3.swap_conv2d(net, ("direct", "smm", "default"))
    assert algorithms(net) == {**wanted, "unused": None}


def test_mapping_exact_name_wins_over_glob_and_rest() -> None:
    net = Crossed()
    table = {"*": "default", "*t*": "smm", "last": "direct"}
    ai3.swap_conv2d(net, table)
    assert algorithms(net) == {
        "first": "smm",
        "twice": "smm",
        "last": "direct",
        "unused": "default",
    }
    assert chosen_by_backend(net, {"twice": "smm"}) == {
        "first": "default",
        "twice": "smm",
        "last": "default",
    }


def test_function_of_the_module() -> None:
    net = Crossed()
    ai3.swap_conv2d(net, lambda conv: "smm" if conv.out_channels == 8 else "direct")
    assert algorithms(net) == {
        "first": "smm",
        "twice": "smm",
        "last": "direct",
        "unused": "direct",
    }


@pytest.mark.parametrize("batch", [(), (2,)])
def test_function_sees_the_shape_of_the_input(batch: tuple[int, ...]) -> None:
    seen: dict[nn.Module, tuple[int, ...]] = {}

    def selector(conv: nn.Module, input_shape: tuple[int, ...]) -> str:
        seen[conv] = input_shape
        return "direct"

    net = Crossed()
    shapes = {net.first: (3, 21, 31), net.twice: (8, 10, 15), net.last: (8, 10, 15)}
    shapes = {conv: (*batch, *shape) for conv, shape in shapes.items()}
    ai3.swap_backend(net, {"conv2d": selector}, (*batch, 3, 21, 31))
    assert seen == shapes
    seen.clear()
    ai3.swap_conv2d(net, selector, (*batch, 3, 21, 31))
    assert seen == shapes


def test_finding_shapes_changes_nothing() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ai3.swap_conv2d(net, lambda conv, input_shape: "smm", (2, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training


def test_function_with_optional_shape() -> None:
    def selector(conv: nn.Module, input_shape: tuple[int, ...] | None = None) -> str:
        return "smm" if input_shape is None else "direct"

    conv = nn.Conv2d(3, 4, 3)
    ai3.swap_conv2d(conv, selector)
    assert algorithms(conv) == {"": "smm"}
    ai3.swap_conv2d(conv, selector, (3, 8, 8))
    assert algorithms(conv) == {"": "direct"}


def test_other_operations_are_selected_too() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU())
    model = ai3.swap_backend(net, {"relu": ["direct", "default"], "maxpool2d": {"2": "direct"}})
    assert [node.algorithm for node in model.graph.nodes] == [
        "default",
        "direct",
        "direct",
        "default",
    ]


WRONG: dict[str, tuple[Any, str]] = {
    "unknown": ("dirct", "'dirct' is unknown, did you mean 'direct'"),
    "unknown_lists_the_valid": ("x", "Valid: .*'smm'"),
    "unknown_in_sequence": (["direct", "smm", "nothing"], "for last: 'nothing' is unknown"),
    "too_short": (["direct"], "1 algorithms were given for 3 conv2d modules: first, twice, last"),
    "too_long": (["direct"] * 4, "4 algorithms were given for 3"),
    "no_such_module": ({"frist": "smm"}, "no conv2d module is named 'frist'; there are"),
    "unknown_in_mapping": ({"first": "smn"}, "for 'first': 'smn' is unknown, did you mean 'smm'"),
    "returns_no_name": (lambda conv: 3, "it returned 3"),
    "returns_unknown": (lambda conv: "wino", "'wino' is unknown"),
    "needs_shape": (lambda conv, shape: "smm", "give sample_input_shape"),
    "no_selector": (3.5, "must be a string, a sequence"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("swap", ["swap_conv2d", "swap_backend"])
def test_wrong_selector_is_told_and_changes_nothing(name: str, swap: str) -> None:
    selector, message = WRONG[name]
    net = Crossed()
    with pytest.raises(SelectionError, match=message):
        if swap == "swap_conv2d":
            ai3.swap_conv2d(net, selector)
        else:
            ai3.swap_backend(net, {"conv2d": selector})
    assert set(algorithms(net).values()) == {None}


def test_unknown_operation() -> None:
    with pytest.raises(SelectionError, match="'conv_2d' is unknown, did you mean 'conv2d'"):
        ai3.swap_backend(Crossed(), {"conv_2d": "direct"})


def test_a_selector_that_raises_changes_nothing() -> None:
    net = Crossed()

    def selector(conv: nn.Conv2d) -> str:
        if conv is net.twice:
            raise KeyError("mine")
        return "smm"

    with pytest.raises(KeyError, match="mine"):
        ai3.swap_conv2d(net, selector)
    assert set(algorithms(net).values()) == {None}


def test_untraceable() -> None:
    with pytest.raises(UntraceableError, match="cannot trace Branching"):
        ai3.swap_backend(Branching())


def test_order_of_an_untraceable_network() -> None:
    """That of registration, which is said; with a sample, that in which it is run."""

    class Both(Crossed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() < 1e9 else x

    net = Both()
    with pytest.warns(UserWarning, match=r"Both .* cannot be traced .* in which they are registe"):
        ai3.swap_conv2d(net, ["direct", "smm", "gemm", "winograd"])
    assert list(algorithms(net).values()) == ["direct", "smm", "gemm", "winograd"]
    net = Both()
    ai3.swap_conv2d(net, ["direct", "smm", "gemm"], (1, 3, 21, 31))
    assert algorithms(net) == {"first": "direct", "twice": "smm", "last": "gemm", "unused": None}
    shapes = {}

    def selector(conv: nn.Module, input_shape: tuple[int, ...]) -> str:
        shapes[conv] = input_shape
        return "direct"

    ai3.swap_conv2d(net, selector, (1, 3, 21, 31))
    assert shapes == {
        net.first: (1, 3, 21, 31),
        net.twice: (1, 8, 10, 15),
        net.last: (1, 8, 10, 15),
    }


def test_untraceable_networks_are_swapped_where_the_order_does_not_matter() -> None:
    net = Branching()
    ai3.swap_conv2d(net, "smm")
    assert algorithms(net) == {"conv": "smm"}


def test_sample_shape_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="sample_input_shape \\(1, 5, 9, 9\\) does not go through"):
        ai3.swap_conv2d(Crossed(), lambda conv, input_shape: "smm", (1, 5, 9, 9))


def test_every_layer_that_an_algorithm_refuses_is_listed() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, dtype=torch.complex64),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1, dtype=torch.complex128),
    )
    with pytest.raises(UnsupportedAlgorithmError) as raised:
        ai3.swap_conv2d(net, "smm")
    assert [(layer, algorithm) for layer, algorithm, _ in raised.value.refusals] == [
        ("0", "smm"),
        ("2", "smm"),
    ]
    assert "complex64, not one of float32, float64, bfloat16, float16" in str(raised.value)
    assert set(algorithms(net).values()) == {None}


def test_refused_by_shape_and_what_is_used_instead() -> None:
    """smm indexes an input plane with 32 bits."""
    conv = nn.Conv2d(1, 1, 1)
    huge = (1, 1, 1 << 16, 1 << 16)
    with pytest.raises(UnsupportedAlgorithmError, match="2\\^31 elements"):
        ai3.swap_conv2d(conv, lambda conv, input_shape: "smm", huge)
    with pytest.raises(UnsupportedAlgorithmError, match="2\\^31 elements"):
        ai3.swap_backend(conv, {"conv2d": "smm"}, huge)
    model = ai3.swap_backend(conv, {"conv2d": "smm"}, huge, unsupported="direct")
    assert [node.algorithm for node in model.graph.nodes] == ["direct"]
    ai3.swap_conv2d(conv, lambda conv, input_shape: "smm", huge, unsupported="direct")
    assert algorithms(conv) == {"": "direct"}


def test_what_winograd_refuses_is_known_without_a_shape() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1))
    swaps: list[Callable[..., Any]] = [
        lambda **options: ai3.swap_conv2d(net, "winograd", **options),
        lambda **options: ai3.swap_backend(net, {"conv2d": "winograd"}, **options),
    ]
    for swap in swaps:
        with pytest.raises(UnsupportedAlgorithmError) as raised:
            swap()
        assert raised.value.refusals == [
            ("0", "winograd", "the stride is above 1"),
            ("2", "winograd", "the kernel is 1x1, not 3x3 or 5x5"),
        ]
        assert set(algorithms(net).values()) == {None}
    ai3.swap_conv2d(net, "winograd", unsupported="smm")
    assert list(algorithms(net).values()) == ["smm", "winograd", "smm"]
    model = ai3.swap_backend(net, {"conv2d": "winograd"}, unsupported="direct")
    assert [node.algorithm for node in model.graph.nodes] == ["direct", "winograd", "direct"]


def test_refused_when_the_shape_is_met() -> None:
    conv = nn.Conv2d(1, 1, 1)
    model = ai3.swap_backend(conv, {"conv2d": "smm"})
    with pytest.raises(UnsupportedAlgorithmError, match="2\\^31 elements"):
        model(torch.empty(0, 1, 1 << 16, 1 << 16))
    model = ai3.swap_backend(conv, {"conv2d": "smm"}, unsupported="direct")
    assert model(torch.empty(0, 1, 1 << 16, 1 << 16)).shape == (0, 1, 1 << 16, 1 << 16)


def test_unsupported_must_name_an_algorithm() -> None:
    with pytest.raises(SelectionError, match="'ignore' is unknown"):
        ai3.swap_conv2d(nn.Conv2d(1, 1, 1), "smm", unsupported="ignore")


def test_only_torch_networks() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, not dict"):
        ai3.swap_conv2d({})  # type: ignore[arg-type]


def test_from_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ai3, "FROM_BACKEND", "torch")
    ai3.swap_conv2d(Crossed(), "smm")
    monkeypatch.setattr(ai3, "FROM_BACKEND", "jax")
    with pytest.raises(ValueError, match="FROM_BACKEND must be 'torch' or None"):
        ai3.swap_conv2d(Crossed(), "smm")
