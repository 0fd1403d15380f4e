"""Every network, turned into an `ai3.Model` with every algorithm of convolution."""

import copy

import pytest
import torch
from torch import nn

import ai3
from ai3.ops import ON_CPU
from test.compare import assert_close, fits, in_own_dtype, is_too_large, met
from test.conftest import Case

ALGORITHMS = in_own_dtype(ON_CPU["conv2d"])


def ran(model: ai3.Model, sample: torch.Tensor) -> dict[str, str]:
    """Module name -> the algorithm that runs, for every convolution; two may be one step."""
    steps = model.profile(sample, repeat=1)
    return {
        name: step.algorithm
        for step in steps
        if step.op in ("conv2d", "expand_depthwise")
        for name in step.name.split(" + ")
    }


@pytest.fixture(scope="module")
def default_model(network: Case) -> ai3.Model:
    return ai3.swap_backend(network.module)


def test_no_selector_means_default(network: Case, default_model: ai3.Model) -> None:
    assert_close(default_model(network.input), network.expected)
    assert {node.algorithm for node in default_model.graph.nodes} == {"default"}


@pytest.mark.thinned(12)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_algorithm(network: Case, algorithm: str) -> None:
    if is_too_large(network.module, algorithm):
        pytest.skip("too large")
    model = ai3.swap_backend(network.module, {"conv2d": algorithm}, unsupported="direct")
    assert_close(model(network.input), network.expected, algorithm)
    algorithms = ran(model, network.input)
    assert algorithms.keys() == met(network.module, network.input, nn.Conv2d).keys()
    if algorithm in ("default", "guess"):
        assert set(algorithms.values()) <= set(ALGORITHMS) - {"default", "guess"}
    else:
        for name, used in algorithms.items():
            fitting = fits(network.module.get_submodule(name), algorithm)
            assert used == (algorithm if fitting else "direct")


@pytest.mark.thinned(3)
def test_function_that_sees_input_shapes(network: Case) -> None:
    def select(conv: nn.Conv2d, input_shape: tuple[int, ...]) -> str:
        return "smm" if input_shape[1] > 64 else "direct"

    selectors = {"conv2d": select, "maxpool2d": "default"}
    model = ai3.swap_backend(network.module, selectors, tuple(network.input.shape))
    assert_close(model(network.input), network.expected)
    algorithms = ran(model, network.input)
    for name in met(network.module, network.input, nn.Conv2d):
        conv = network.module.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        assert algorithms[name] == ("smm" if conv.in_channels > 64 else "direct"), name


@pytest.mark.thinned(3)
def test_profile_tells_every_layer(network: Case, default_model: ai3.Model) -> None:
    steps = default_model.profile(network.input)
    assert tuple(steps[-1].shape) == tuple(network.expected.shape)
    for step in steps:
        assert step.ms >= 0
        assert step.algorithm in ON_CPU[step.op]
    linear = {step.name for step in steps if step.op == "linear"}
    # Those of attention are functions, or modules that are not called.
    modules = dict(network.module.named_modules())
    attention = tuple(
        name for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)
    )
    called = {name for name in linear & modules.keys() if not name.startswith(attention)}
    layers = met(network.module, network.input, nn.Linear).keys()
    assert called == layers


@pytest.mark.thinned(3)
def test_other_batch_sizes(network: Case, default_model: ai3.Model) -> None:
    batch = torch.cat([network.input, -network.input])
    with torch.inference_mode():
        expected = network.module(batch)
    assert_close(default_model(batch), expected)
    assert_close(default_model(network.input), network.expected)


@pytest.mark.parametrize("network", ["resnet18"], indirect=True)
def test_the_original_is_left_alone(network: Case) -> None:
    before = {name: type(layer) for name, layer in network.module.named_modules()}
    ai3.swap_backend(network.module, {"conv2d": "direct"})
    assert {name: type(layer) for name, layer in network.module.named_modules()} == before
    with torch.inference_mode():
        assert torch.equal(network.module(network.input), network.expected)


@pytest.mark.parametrize("network", ["simple_created"], indirect=True)
def test_single_image(network: Case, default_model: ai3.Model) -> None:
    image = network.input[0]
    with torch.inference_mode():
        assert_close(default_model(image), network.module(image))


@pytest.mark.parametrize("network", ["resnet18", "squeezenet"], indirect=True)
def test_double_precision(network: Case) -> None:
    module = copy.deepcopy(network.module).double()
    sample = network.input.double()
    model = ai3.swap_backend(module)
    with torch.inference_mode():
        assert_close(model(sample), module(sample))
