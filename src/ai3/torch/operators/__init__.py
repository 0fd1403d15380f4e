"""The operators `ai3::...`, as torch's dispatcher knows them, and their gradients."""

from ai3.torch.layer import linear_gradients
from ai3.torch.operators.convolution import (
    conv2d,
    conv2d_gradients,
    conv_transpose2d,
    conv_transpose2d_gradients,
)
from ai3.torch.operators.linear import linear

__all__ = [
    "conv2d",
    "conv2d_gradients",
    "conv_transpose2d",
    "conv_transpose2d_gradients",
    "linear",
    "linear_gradients",
]
