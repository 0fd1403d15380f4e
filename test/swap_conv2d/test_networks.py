"""Every network, its convolutions swapped in place for every algorithm."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ai3
from ai3.ops import ON_CPU
from test.compare import assert_close, fits, in_own_dtype, is_too_large, met
from test.conftest import Case

ALGORITHMS = in_own_dtype(ON_CPU["conv2d"])


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


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


@pytest.mark.thinned(12)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_algorithm(network: Case, algorithm: str) -> None:
    if is_too_large(network.module, algorithm):
        pytest.skip("too large")
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


@pytest.mark.thinned(3)
def test_list_in_the_order_of_the_forward_pass(network: Case) -> None:
    module = network.copy()
    names = list(met(module, network.input, nn.Conv2d))
    algorithms = [ALGORITHMS[i % len(ALGORITHMS)] for i in range(len(names))]
    for i, name in enumerate(names):
        conv = module.get_submodule(name)
        if not fits(conv, algorithms[i]) or is_too_large(module, algorithms[i]):
            algorithms[i] = "direct"

    ai3.swap_conv2d(module, algorithms, tuple(network.input.shape))
    for name, algorithm in zip(names, algorithms, strict=True):
        assert module.get_submodule(name).algorithm == algorithm
    with torch.inference_mode():
        assert_close(module(network.input), network.expected)
    with torch.no_grad(), Recorder() as recorder:
        module(network.input)
    assert recorder.algorithms == algorithms


@pytest.mark.thinned(3)
def test_function_that_sees_input_shapes(network: Case) -> None:
    module = network.copy()
    names = {layer: name for name, layer in module.named_modules()}
    given: dict[str, tuple[int, ...]] = {}

    def select(conv: nn.Conv2d, input_shape: tuple[int, ...]) -> str:
        given[names[conv]] = tuple(input_shape)
        return "smm" if input_shape[1] > 64 else "direct"

    expected = met(module, network.input, nn.Conv2d)
    ai3.swap_conv2d(module, select, tuple(network.input.shape))
    assert given == expected
    for name, shape in expected.items():
        algorithm = "smm" if shape[1] > 64 else "direct"
        assert module.get_submodule(name).algorithm == algorithm
    with torch.inference_mode():
        assert_close(module(network.input), network.expected)


@pytest.mark.thinned(3)
def test_channels_last_input(network: Case) -> None:
    module = network.copy()
    ai3.swap_conv2d(module, "direct")
    with torch.inference_mode():
        output = module(network.input.to(memory_format=torch.channels_last))
    assert_close(output, network.expected)
