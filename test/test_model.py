"""Models: made from layers or converted, of any shape, from any thread."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3 import layers
from ai3.errors import UnsupportedCallableError


class Block(nn.Module):
    """What ResNet and SqueezeNet are made of: batch norm, a residual sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.Conv2d(4, 3, 1)
        self.free_bn = nn.BatchNorm2d(7)
        for norm in (self.bn, self.free_bn):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y += x
        y = self.relu(y)
        return F.adaptive_avg_pool2d(self.free_bn(torch.cat([y, self.branch(y)], 1)), (2, 3))


def chain() -> ai3.Model:
    weight, bias = torch.randn(5, 3, 3, 3), torch.randn(5)
    return ai3.Model(
        [
            layers.Conv2D(weight, bias, padding=1, algorithm="smm"),
            layers.ReLU(),
            layers.MaxPool2D(2),
            layers.AvgPool2D(2, stride=1),
            layers.AdaptiveAvgPool2D((2, None)),
            layers.Flatten(),
            layers.Linear(torch.randn(7, 30)),
        ]
    )


def assert_converted(module: nn.Module, *inputs: Tensor, **options: Any) -> ai3.Model:
    model = ai3.swap_backend(module, **options)
    with torch.no_grad():
        expected = module(*(x.clone() for x in inputs))
    torch.testing.assert_close(model(*inputs), expected, rtol=1e-4, atol=1e-5)
    return model


def test_layers_run_one_after_the_other() -> None:
    model = chain()
    x = torch.randn(2, 3, 8, 8)
    conv, linear = (node.weights for node in (model.graph.nodes[0], model.graph.nodes[-1]))
    y = F.conv2d(x, torch.tensor(conv[0]), torch.tensor(conv[1]), padding=1)
    y = F.avg_pool2d(F.max_pool2d(y.relu(), 2), 2, 1)
    y = F.adaptive_avg_pool2d(y, (2, None)).flatten(1)
    torch.testing.assert_close(model(x), F.linear(y, torch.tensor(linear[0])), rtol=1e-4, atol=1e-4)
    assert model.profile(x)[0].algorithm == "smm"


def test_a_model_is_made_of_layers() -> None:
    with pytest.raises(TypeError, match="layer 1 is a Conv2d, not an ai3 layer"):
        ai3.Model([layers.ReLU(), nn.Conv2d(1, 1, 1)])  # type: ignore[list-item]
    x = torch.randn(2)
    assert torch.equal(ai3.Model([])(x), x)


def test_types_in_and_out() -> None:
    model = chain()
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    assert type(expected) is Tensor
    assert type(model(x.numpy())) is np.ndarray
    assert type(model(ai3.Tensor(x))) is ai3.Tensor
    assert type(model.predict(x)) is ai3.Tensor
    assert type(model.predict(x, torch.Tensor)) is Tensor
    assert type(model.predict(x.numpy(), out_type=np.ndarray)) is np.ndarray
    for result in (model(x.numpy()), model.predict(x).numpy(), model.predict(x, np.ndarray)):
        np.testing.assert_array_equal(result, expected)


def test_graph_with_branches() -> None:
    net = Block().eval()
    model = assert_converted(net, torch.randn(2, 4, 9, 8))
    ops = [node.op for node in model.graph.nodes]
    assert ops == ["conv2d", "add", "relu", "conv2d", "concat", "batchnorm2d", "adaptiveavgpool2d"]


def test_batch_norm_is_folded_only_where_nothing_else_reads_the_convolution() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.bn = Block().free_bn
            self.bn = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + self.bn(y)

    model = assert_converted(Twice().eval(), torch.randn(1, 3, 5, 5))
    assert [node.op for node in model.graph.nodes] == ["conv2d", "batchnorm2d", "add"]


def test_in_place_functions_change_what_is_read_later() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + x
            F.relu_(y)
            z = y.add_(x)
            return y + z

    x = torch.randn(3, 4)
    before = x.clone()
    assert_converted(InPlace(), x)
    assert torch.equal(x, before)


def test_the_users_tensor_is_never_overwritten() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.ReLU(inplace=True))
    x = torch.randn(3, 4, 5)
    before = x.clone()
    assert_converted(net, x)
    assert torch.equal(x, before)


def test_output_that_is_the_input_is_a_copy() -> None:
    for net in (nn.Identity(), nn.Flatten(), nn.Sequential(nn.Dropout(), nn.Flatten())):
        x = torch.randn(3, 4, 5)
        y = ai3.swap_backend(net)(x)
        y.zero_()
        assert x.count_nonzero() > 0


def test_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = torch.relu(a)
            return y, torch.add(y, b, alpha=2), y

    a, b = torch.randn(2, 3), torch.randn(2, 3)
    model = assert_converted(Two(), a, b)
    with pytest.raises(ValueError, match="takes 2 inputs, not 1"):
        model(a)


def test_a_module_used_twice_has_one_set_of_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.relu(self.conv(x)))

    model = assert_converted(
        Twice(), torch.randn(1, 3, 5, 5), algos={"conv2d": ["smm"]}, sample_input_shape=(1, 3, 5, 5)
    )
    first, second = (model.weights[n.name] for n in model.graph.nodes if n.op == "conv2d")
    assert first is second


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_shape_any_number_of_times(count: int) -> None:
    net = Block().eval()
    model = ai3.swap_backend(net)
    for _ in range(count):
        for size in range(3, 15):
            x = torch.randn(size % 3 + 1, 4, size, size + 2)
            with torch.no_grad():
                torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


def test_double_and_conversion() -> None:
    net = Block().eval()
    x = torch.randn(1, 4, 6, 6)
    model = ai3.swap_backend(net, dtype=torch.float64)
    with torch.no_grad():
        expected = copy.deepcopy(net).double()(x.double())
    torch.testing.assert_close(model(x.double()), expected)
    with pytest.raises(ValueError, match="input is float32 but the weights are float64"):
        model(x)
    with pytest.raises(ValueError, match="dtype must be float32 or float64"):
        ai3.swap_backend(net, dtype=torch.float16)
    with pytest.raises(UnsupportedCallableError, match=r"weights of torch\.float16"):
        ai3.swap_backend(copy.deepcopy(net).half())
    assert ai3.swap_backend(copy.deepcopy(net).half(), dtype="float32")(x).dtype == torch.float32


def test_weights_are_copied() -> None:
    net = nn.Conv2d(2, 2, 1)
    x = torch.randn(1, 2, 3, 3)
    model = ai3.swap_backend(net)
    expected = model(x)
    with torch.no_grad():
        net.weight.zero_()
    assert torch.equal(model(x), expected)


def test_a_swapped_network_converts_too() -> None:
    net = Block().eval()
    ai3.swap_conv2d(net, "smm")
    assert_converted(net, torch.randn(2, 4, 9, 8))


def test_copies_and_pickles() -> None:
    model = chain()
    x = torch.randn(2, 3, 8, 8)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
        assert [n.algorithm for n in other.graph.nodes] == [n.algorithm for n in model.graph.nodes]


def test_threads_share_a_model() -> None:
    net = Block().eval()
    model = ai3.swap_backend(net)
    inputs = [torch.randn(1, 4, 5 + i, 6) for i in range(12)]
    with torch.no_grad():
        expected = [net(x) for x in inputs]
    wrong = []

    def work() -> None:
        for _ in range(5):
            for x, y in zip(inputs, expected, strict=True):
                if not torch.allclose(model(x), y, atol=1e-4):
                    wrong.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_everything_unsupported_is_listed_with_its_place() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).angle()

    class Unsupported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.pool = nn.FractionalMaxPool2d(2, 3)
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Any:
            return self.pool(self.inner(self.bn(x)))

    with pytest.raises(UnsupportedCallableError) as raised:
        ai3.swap_backend(Unsupported())
    modules = [place.split(" (")[0] for place, _ in raised.value.callables]
    assert modules == ["bn", "inner", "inner", "pool"]
    for place, _ in raised.value.callables:
        file, _, line = place.partition(" (")[2].rstrip(")").rpartition(":")
        assert file == __file__
        assert int(line) > 0
    message = str(raised.value)
    assert "fft" in message
    assert "call eval() first" in message
    assert "fractional_max_pool2d" in message
    assert "unsupported='torch'" in message


def test_wrong_input_is_told_with_the_layers_name() -> None:
    model = ai3.swap_backend(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)))
    with pytest.raises(ValueError, match="1: conv2d: input must have 3 channels"):
        model(torch.randn(1, 2, 8, 8))
    with pytest.raises(
        TypeError,
        match=r"1: conv2d: the input int64\(1, 3, 8, 8\) must be float32, float64 or bfloat16",
    ):
        model(torch.zeros(1, 3, 8, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match="expected an array"):
        model("picture")
    with pytest.raises(TypeError, match="is no mapping"):
        ai3.swap_backend(nn.ReLU(), "direct")  # type: ignore[arg-type]


def test_graph_is_readable() -> None:
    text = str(ai3.swap_backend(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).graph)
    heading, image, conv, relu, output = text.splitlines()
    assert heading.split() == ["value", "operation", "reads", "algorithm", "module"]
    assert image.split() == ["input_1", "input"]
    assert "conv2d((4, 3, 3, 3), (4,))" in conv
    assert conv.index("default") == relu.index("default") == heading.index("algorithm")
    assert output.split()[1] == "output"
