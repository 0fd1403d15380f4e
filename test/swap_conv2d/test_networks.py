"""Every network, its convolutions swapped in place for every algorithm."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ai3
from test.compare import assert_close, fits
from test.conftest import Case

ALGORITHMS = ai3.SUPPORTED_ALGORITHMS["conv2d"]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def met(module: nn.Module, sample: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Names of the convolutions, in the order of a forward pass, with their input's shape."""
    found: dict[str, tuple[int, ...]] = {}
    names = {layer: name for name, layer in module.named_modules()}

    def hook(conv: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found.setdefault(names[conv], tuple(inputs[0].shape))

    handles = [conv.register_forward_pre_hook(hook) for conv in convolutions(module)]
    with torch.inference_mode():
        module(sample)
    for handle in handles:
        handle.remove()
    return found


class Recorder(TorchDispatchMode):
    """Notes the algorithm of every call of the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.algorithms: list[str] = []

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.ops.ai3.conv2d.default:
            names = [argument.name for argument in function._schema.arguments]
            self.algorithms.append(arguments[names.index("algorithm")])
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_algorithm(network: Case, algorithm: str) -> None:
    module = network.copy()
    ai3.swap_conv2d(module, algorithm, unsupported="direct")
    for conv in convolutions(module):
        assert conv.algorithm == (algorithm if fits(conv, algorithm) else "direct")
    with torch.inference_mode():
        assert_close(module(network.input), network.expected, algorithm)


def test_no_selector_means_default(network: Case) -> None:
    module = network.copy()
    ai3.swap_conv2d(module)
    assert {conv.algorithm for conv in convolutions(module)} == {"default"}


def test_list_in_the_order_of_the_forward_pass(network: Case) -> None:
    module = network.copy()
    names = list(met(module, network.input))
    algorithms = [ALGORITHMS[i % len(ALGORITHMS)] for i in range(len(names))]
    for i, name in enumerate(names):
        if not fits(module.get_submodule(name), algorithms[i]):
            algorithms[i] = "direct"

    ai3.swap_conv2d(module, algorithms, tuple(network.input.shape))
    for name, algorithm in zip(names, algorithms, strict=True):
        assert module.get_submodule(name).algorithm == algorithm
    with torch.inference_mode():
        assert_close(module(network.input), network.expected)
    with torch.no_grad(), Recorder() as recorder:
        module(network.input)
    assert recorder.algorithms == algorithms


def test_function_that_sees_input_shapes(network: Case) -> None:
    module = network.copy()
    names = {layer: name for name, layer in module.named_modules()}
    given: dict[str, tuple[int, ...]] = {}

    def select(conv: nn.Conv2d, input_shape: tuple[int, ...]) -> str:
        given[names[conv]] = tuple(input_shape)
        return "smm" if input_shape[1] > 64 else "direct"

    expected = met(module, network.input)
    ai3.swap_conv2d(module, select, tuple(network.input.shape))
    assert given == expected
    for name, shape in expected.items():
        algorithm = "smm" if shape[1] > 64 else "direct"
        assert module.get_submodule(name).algorithm == algorithm
    with torch.inference_mode():
        assert_close(module(network.input), network.expected)


def test_channels_last_input(network: Case) -> None:
    module = network.copy()
    ai3.swap_conv2d(module, "direct")
    with torch.inference_mode():
        output = module(network.input.to(memory_format=torch.channels_last))
    assert_close(output, network.expected)
