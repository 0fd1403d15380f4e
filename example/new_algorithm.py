"""From an idea to the table of a network: `python -m example.new_algorithm`.

The idea: a convolution is one product of matrices for each position of the kernel, added up.
"""

from collections.abc import Callable
from typing import Any

import torch

import ai3
from runners import networks

NAME = "tap by tap"


@ai3.algorithm("conv2d", NAME, arrays="torch")
class TapByTap:
    """One matrix product for each kernel position."""

    def refusal(self, p: Any) -> str | None:
        if p.padding_mode != "zeros":
            return "it is padded, and not by zeros"
        return "it has groups" if p.groups > 1 else None

    def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
        bias = weights[1][:, None] if p.has_bias else None
        taps = [
            (i * p.dilation_h, j * p.dilation_w, weights[0][:, :, i, j].contiguous())
            for i in range(p.KH)
            for j in range(p.KW)
        ]

        def run(inputs: list[Any], output: Any, workspace: Any) -> None:
            pads = (p.pad_left, p.pad_right, p.pad_top, p.pad_bottom)
            x = torch.nn.functional.pad(inputs[0].reshape(p.N, p.IC, p.IH, p.IW), pads)
            y = output.view(p.N, p.OC, p.OH * p.OW)
            y.zero_()
            for top, left, tap in taps:
                rows = slice(top, top + (p.OH - 1) * p.stride_h + 1, p.stride_h)
                columns = slice(left, left + (p.OW - 1) * p.stride_w + 1, p.stride_w)
                y += tap @ x[:, :, rows, columns].reshape(p.N, p.IC, -1)
            if bias is not None:
                y += bias

        return run


def main() -> None:
    loaded = networks.load("alexnet")
    images = torch.randn(loaded.input_shape)
    with torch.inference_mode():
        expected = loaded.module(images)
        model = ai3.swap_backend(loaded.module, {"conv2d": NAME}, loaded.input_shape)
        torch.testing.assert_close(torch.as_tensor(model(images)), expected, rtol=1e-3, atol=1e-3)
    print(model.report(images))


if __name__ == "__main__":
    main()
