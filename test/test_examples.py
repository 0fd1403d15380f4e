"""The examples of the documentation, as they stand there and with the tolerances they promise."""

from collections.abc import Sequence

import torch

import ai3


class ConvNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, kernel_size=3, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.maxpool = torch.nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maxpool(self.conv2(self.maxpool(self.conv1(x))))


def test_both_functions() -> None:
    input_data = torch.randn(10, 3, 224, 224)
    orig = ConvNet()
    torch_out = orig(input_data)
    model: ai3.Model = ai3.swap_backend(orig, {"conv2d": "direct", "maxpool2d": "default"})
    ai3_out = model(input_data)
    ai3.swap_conv2d(orig, ["direct", "smm"])
    swap_out = orig(input_data)
    assert torch.allclose(torch_out, ai3_out, atol=1e-6)
    assert torch.allclose(torch_out, swap_out, atol=1e-6)


def test_function_of_the_module() -> None:
    def conv2d_selector(orig: torch.nn.Conv2d) -> str:
        in_channels = orig.weight.shape[1]
        if in_channels > 200:
            return "smm"
        return "direct"

    input_data = torch.randn(2, 3, 64, 64)
    orig = ConvNet()
    model: ai3.Model = ai3.swap_backend(orig, {"conv2d": conv2d_selector})
    assert torch.allclose(orig(input_data), model(input_data), atol=1e-6)


def test_function_of_module_and_single_input_shape() -> None:
    def conv2d_selector(orig: torch.nn.Conv2d, input_shape: Sequence[int]) -> str:
        out_channels = orig.weight.shape[0]
        if (
            out_channels < 50
            and input_shape[0] < 50
            and input_shape[1] > 150
            and input_shape[2] > 150
        ):
            return "direct"
        return "smm"

    input_data = torch.randn(10, 3, 224, 224)
    orig = ConvNet()
    torch_out = orig(input_data)
    ai3.swap_conv2d(orig, conv2d_selector, (3, 224, 224))
    sc_out = orig(input_data)
    assert torch.allclose(torch_out, sc_out, atol=1e-6)
    assert (orig.conv1.algorithm, orig.conv2.algorithm) == ("direct", "smm")


def test_function_of_module_and_batched_input_shape() -> None:
    from runners import networks

    def auto_selector(orig: torch.nn.Conv2d, input_shape: Sequence[int]) -> str:
        out_channels = orig.weight.shape[0]
        if (
            out_channels < 50
            and input_shape[1] < 50
            and input_shape[2] > 150
            and input_shape[3] > 150
        ):
            return "direct"
        return "smm"

    input_data = torch.randn(1, 3, 224, 224)
    vgg16 = networks.load("vgg16").module
    with torch.inference_mode():
        torch_out = vgg16(input_data)
        model: ai3.Model = ai3.swap_backend(
            vgg16,
            {"conv2d": auto_selector, "maxpool2d": "default"},
            sample_input_shape=(1, 3, 224, 224),
        )
        sb_out = model(input_data)
        assert torch.allclose(torch_out, sb_out, atol=1e-4)


def test_the_demo_finds_what_it_imports() -> None:
    """`./run demo`, which takes too long to run whole here."""
    from example import demo

    conv = torch.nn.Conv2d(3, 8, 3)
    assert demo.auto_selector(conv, (1, 3, 224, 224)) in ai3.SUPPORTED_ALGORITHMS["conv2d"]
