"""Functions and methods of torch that are no single operation of the framework, or none at all.

`TABLE` maps qualified names, "Tensor.view" being a method, to functions of the Capture, to which
they add nodes, and of torch's own parameters. A file for each kind of function.
"""

from ai3.torch.lowerings import (
    arithmetic,
    assignment,
    convolution,
    images,
    indexing,
    interpolation,
    movement,
    norms,
    pointwise,
    pooling,
    products,
    recurrent,
    reductions,
    selection,
    shapes,
)
from ai3.torch.lowerings.table import TABLE

__all__ = [
    "TABLE",
    "arithmetic",
    "assignment",
    "convolution",
    "images",
    "indexing",
    "interpolation",
    "movement",
    "norms",
    "pointwise",
    "pooling",
    "products",
    "recurrent",
    "reductions",
    "selection",
    "shapes",
]
