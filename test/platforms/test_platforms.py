"""Modules on the devices of a platform: which algorithms they get, what is refused, moves."""

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import ai3
from ai3.errors import SelectionError, UnsupportedAlgorithmError
from ai3.platforms import add_algorithm, names, remove_algorithm
from test.platforms.device import Mirror

Conv = Callable[..., nn.Module]

CONVOLUTIONS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "plain": lambda: (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 9, 8)),
    "unbatched": lambda: (nn.Conv2d(3, 5, 3, stride=2), (3, 9, 8)),
    "groups": lambda: (nn.Conv2d(4, 6, (3, 2), groups=2, bias=False), (1, 4, 7, 8)),
    "same": lambda: (nn.Conv2d(2, 3, 4, padding="same", dilation=2), (2, 2, 11, 12)),
    "reflect": lambda: (nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 2, 7, 6)),
    "circular": lambda: (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 7, 6)),
    "replicate": lambda: (
        nn.Conv2d(2, 3, 3, padding=(1, 2), stride=2, padding_mode="replicate"),
        (2, 2, 7, 6),
    ),
    "empty": lambda: (nn.Conv2d(2, 3, 3), (0, 2, 7, 6)),
    "rows": lambda: (nn.Conv1d(3, 4, 3, padding=1), (2, 3, 20)),
    "volumes": lambda: (nn.Conv3d(2, 3, 3, padding=1), (1, 2, 4, 5, 6)),
    "transposed": lambda: (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6)),
    "transposed rows": lambda: (nn.ConvTranspose1d(3, 4, 3, stride=2), (2, 3, 5)),
    "linear": lambda: (nn.Linear(7, 5), (3, 2, 7)),
}
KINDS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "linear")


def swap_all(module: nn.Module, name: str = "default") -> None:
    ai3.swap(module, dict.fromkeys(KINDS, name))


def trained(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients by input and parameters."""
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape).to(y))
    found = [y.detach(), x.grad, *(p.grad for p in module.parameters())]
    return [t.cpu() for t in found if t is not None]


def close(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def row(name: str) -> Any:
    return next(row for row in ai3.platforms() if row.name == name)


def test_platforms_are_told_with_reasons(mirror: Mirror) -> None:
    assert ai3.platforms()[0] == ("cpu", True, "")
    assert row("mirror") == ("mirror", True, "")
    assert row("glass") == ("glass", False, "it is broken")
    mirror.absent = "it is foggy"
    assert (
        row("mirror") == row("silver")._replace(name="mirror") == ("mirror", False, "it is foggy")
    )


def test_names_are_asked_for_without_torch() -> None:
    code = (
        "import sys, ai3\n"
        "from ai3 import selector\n"
        "try: selector.check_algorithm('conv2d', 'no such')\n"
        "except ValueError as e: print('torch' in sys.modules, 'Valid' in str(e))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_swapped_on_a_device_computes_as_before(mirror: Mirror, name: str) -> None:
    module, shape = CONVOLUTIONS[name]()
    x = torch.randn(shape)
    expected = trained(module, x)
    module.zero_grad()
    module.to("mirror:1")
    swap_all(module)
    close(trained(module, x.to("mirror:1")), expected)
    (told,) = [row for row in ai3.swapped(module) if row.algorithm]
    assert told.algorithm == "default"


def test_the_named_algorithm_runs(mirror: Mirror) -> None:
    columns = mirror.algorithms("conv2d")["columns"]
    for name, packed in (("own", 0), ("columns", 1), ("default", 1)):
        conv, before = nn.Conv2d(3, 5, 3, device="mirror"), columns.packings  # type: ignore[attr-defined]
        ai3.swap_conv2d(conv, name)
        conv(torch.randn(2, 3, 9, 8, device="mirror"))
        assert columns.packings - before == packed, name  # type: ignore[attr-defined]


def test_refusals_leave_the_network_as_it_is(mirror: Mirror) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Linear(3, 3)).to("mirror")
    with pytest.raises(UnsupportedAlgorithmError, match="'columns': it has groups"):
        ai3.swap_conv2d(net, "columns")
    with pytest.raises(
        UnsupportedAlgorithmError, match="'fft': it runs on cpu and cuda, not on mirror"
    ):
        ai3.swap_conv2d(net, "fft")
    with pytest.raises(SelectionError, match="'colums' is unknown, did you mean 'columns'"):
        ai3.swap_conv2d(net, "colums")
    with pytest.raises(UnsupportedAlgorithmError, match="'columns': it runs on mirror, not on cpu"):
        ai3.swap_conv2d(nn.Conv2d(3, 3, 3), "columns")
    assert type(net[0]) is nn.Conv2d
    ai3.swap_conv2d(net, "columns", unsupported="own")
    assert ai3.swapped(net)[0].algorithm == "own"


def test_what_only_the_shape_tells_is_refused_where_it_is_known(mirror: Mirror) -> None:
    conv = nn.Conv2d(1, 1, 1, device="mirror")
    ai3.swap_conv2d(conv, "columns")
    assert conv(torch.ones(1, 1, 9, 9, device="mirror")).shape == (1, 1, 9, 9)
    with pytest.raises(ValueError, match="conv2d: 'columns' cannot do this on mirror: it has more"):
        conv(torch.ones(1, 1, 99, 99, device="mirror"))
    ai3.restore(conv)
    by: Any = lambda module, shape: "columns"  # noqa: E731
    with pytest.raises(UnsupportedAlgorithmError, match="it has more than a thousand pixels"):
        ai3.swap_conv2d(nn.Sequential(conv), by, (1, 1, 99, 99))


def test_what_is_not_there_is_left_alone(mirror: Mirror) -> None:
    conv = nn.Conv2d(1, 1, 1, device="mirror")
    mirror.absent = "it is foggy"
    ai3.swap_conv2d(conv)
    assert ai3.swapped(conv) == [
        (
            "",
            None,
            "its weights are on mirror:0, and mirror cannot be used: it is foggy",
            None,
            None,
        )
    ]


@pytest.mark.parametrize("case", ["input", "dtype", "shape"])
def test_bad_inputs_are_one_sentence(mirror: Mirror, case: str) -> None:
    conv = nn.Conv2d(3, 4, 3, device="mirror:1")
    ai3.swap_conv2d(conv)
    x, message = {
        "input": (torch.ones(1, 3, 9, 9), r"is on cpu.* on mirror:1"),
        "dtype": (torch.ones(1, 3, 9, 9, device="mirror:1").double(), "of one dtype, not float64"),
        "shape": (torch.ones(1, 2, 9, 9, device="mirror:1"), "must have 3 channels"),
    }[case]
    with pytest.raises((ValueError, RuntimeError), match=message):
        conv(x)
    if case == "input":
        with pytest.raises((ValueError, RuntimeError), match=r"is on mirror:0.* on mirror:1"):
            conv(x.to("mirror:0"))


def test_moves_keep_names_where_they_mean_something(mirror: Mirror) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    x = torch.randn(1, 3, 6, 6)
    expected = net(x)
    ai3.swap_conv2d(net)
    for place in ("mirror:0", "cpu", "mirror:1", "mirror:0"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net.to(place)
        close([net(x.to(place)).cpu()], [expected])
    net.cpu()
    ai3.swap_conv2d(net, "fft")
    with pytest.warns(
        UserWarning, match="0: its algorithm 'fft' of conv2d means nothing on mirror"
    ):
        net.to("mirror")
    with pytest.raises(ValueError, match="'fft' cannot do this on mirror: it runs on cpu and cuda"):
        net(x.to("mirror"))
    close([net.cpu()(x)], [expected])


def test_weights_may_change_and_be_shared(mirror: Mirror) -> None:
    conv = nn.Conv2d(3, 4, 3, device="mirror")
    ai3.swap_conv2d(conv, "columns")
    x = torch.randn(1, 3, 6, 6, device="mirror")
    columns: Any = mirror.algorithms("conv2d")["columns"]

    def check(packed: int) -> None:
        before = columns.packings
        expected = nn.functional.conv2d(x.cpu(), conv.weight.cpu(), conv.bias.cpu())
        close([conv(x).detach().cpu()], [expected.detach()])
        assert columns.packings - before == packed

    check(1)
    check(1)
    conv.weight.data.mul_(2)
    check(1)
    ai3.freeze(conv)
    check(1)
    check(0)
    with torch.no_grad():
        conv.weight.mul_(2)
    check(1)
    conv.weight.data = torch.randn(4, 3, 3, 3, device="mirror")
    check(1)
    other = copy.deepcopy(conv)
    assert pickle.loads(pickle.dumps(conv.cpu())).algorithm == other.algorithm == "columns"
    close([other(x).detach().cpu()], [conv.to("mirror")(x).detach().cpu()])


def test_channels_last_stays(mirror: Mirror) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", device="mirror")
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 3, 6, 6, device="mirror").to(memory_format=torch.channels_last)
    expected = trained(conv, x)
    conv.zero_grad()
    for name in ("own", "columns"):
        ai3.swap_conv2d(conv, name)
        close(trained(conv, x), expected)
        assert conv(x).is_contiguous(memory_format=torch.channels_last) == (name == "own")
        conv.zero_grad()


def test_autocast_and_profiler(mirror: Mirror) -> None:
    conv = nn.Conv2d(3, 4, 3, device="mirror")
    x = torch.randn(1, 3, 6, 6, device="mirror")
    ai3.swap_conv2d(conv, "own")
    with torch.autocast("mirror", torch.bfloat16):
        assert conv(x).dtype is torch.bfloat16
    with torch.profiler.profile() as profile:
        conv(x).sum().backward()
    names = {event.name for event in profile.events()}
    assert "ai3::conv2d[own]" in names
    assert any(name.startswith("ai3::conv2d_grad_weight[default: ") for name in names), names


def test_the_operators_pass_opcheck(mirror: Mirror) -> None:
    x, w = (
        torch.randn(s, device="mirror", requires_grad=True) for s in ((2, 3, 6, 7), (4, 3, 3, 3))
    )
    config = ([1, 1], [1, 1, 1, 1], [1, 1], 1, "zeros", None, "columns", "default", "default")
    from ai3.torch import operators  # noqa: F401

    torch.library.opcheck(
        torch.ops.ai3.conv2d.default,
        (x, w, None, *config),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_algorithms_may_be_brought(mirror: Mirror) -> None:
    def twice(problem: Any, x: Any, w: Any, b: Any, output: Any) -> None:
        assert problem.device == "mirror" and x.device.type == "mirror"
        stride = (problem.stride_h, problem.stride_w)
        padding = (problem.pad_top, problem.pad_left)
        output.copy_(2 * nn.functional.conv2d(x, w, b, stride, padding))

    add_algorithm("mirror", "conv2d", "twice", twice)
    assert "twice" in names("conv2d")
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, device="mirror")
    x = torch.randn(1, 3, 6, 6, device="mirror")
    expected = 2 * conv(x)
    ai3.swap_conv2d(conv, "twice")
    close([conv(x).cpu()], [expected.cpu()])
    with pytest.raises(ValueError, match="an algorithm 'columns' of conv2d of its own"):
        add_algorithm("mirror", "conv2d", "columns", twice)
    remove_algorithm("mirror", "conv2d", "twice")
    with pytest.raises(ValueError, match="no algorithm 'twice' of conv2d was added to mirror"):
        remove_algorithm("mirror", "conv2d", "twice")
    with pytest.raises(SelectionError, match="'mirorr' is unknown, did you mean 'mirror'"):
        add_algorithm("mirorr", "conv2d", "twice", twice)


def test_the_decorator_brings_them_too(mirror: Mirror) -> None:
    seen: list[Any] = []

    @ai3.algorithm("conv2d", "ours", arrays="torch")
    class Ours:
        platform, layouts = "mirror", ("channels_last",)

        def plan(self, problem: Any, weights: Sequence[Any]) -> Any:
            def run(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
                seen.append((problem.output_layout, inputs[0].stride(1)))
                output.copy_(nn.functional.conv2d(inputs[0], *weights))

            return run

    @ai3.algorithm("conv2d", "ours")
    def on_cpu(problem: Any, x: Any, w: Any, b: Any, output: Any) -> None:
        output[:] = 7

    conv = nn.Conv2d(3, 4, 3, device="mirror")
    x = torch.randn(1, 3, 6, 6, device="mirror").contiguous(memory_format=torch.channels_last)
    expected = conv(x).cpu()
    ai3.swap_conv2d(conv, "ours")
    close([conv(x).cpu()], [expected])
    assert seen == [("channels_last", 1)]
    assert (conv.cpu()(x.cpu()) == 7).all()
    with pytest.raises(ValueError, match="arrays on mirror are torch's: say arrays='torch'"):
        ai3.algorithm("conv2d", "ours")(Ours)
    ai3.remove_algorithm("conv2d", "ours")
    assert "ours" not in names("conv2d") and "ours" not in ai3.SUPPORTED_ALGORITHMS["conv2d"]


def test_brought_classes_plan_again_for_other_weights(mirror: Mirror) -> None:
    class Packed:
        def plan(self, problem: Any, weights: Sequence[Any]) -> Any:
            packed = weights[0].clone()

            def run(inputs: Sequence[Any], output: Any, workspace: Any) -> None:
                output.copy_(nn.functional.linear(inputs[0], packed))

            return run

    add_algorithm("mirror", "linear", "packed", Packed)
    linear = nn.Linear(3, 4, bias=False, device="mirror")
    ai3.swap(linear, {"linear": "packed"})
    x = torch.randn(2, 3, device="mirror")
    for _ in range(2):
        close([linear(x).detach().cpu()], [(x.cpu() @ linear.weight.cpu().T).detach()])
        with torch.no_grad():
            linear.weight.add_(1)
