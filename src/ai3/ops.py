"""The operations: one row each, how torch spells it and which of its values are what.

Names of attributes are torch's own, for the modules as for the functions, and so are the core's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai3 import _core

REQUIRED = object()

LAYOUTS = ("dense", "blocked", "channels_last")
"""In which the elements of images may lie."""

ON_CPU: dict[str, list[str]] = _core.algorithms()
"""The operations and the algorithms of each on this processor, from the core's registry."""

ONLY_BY_NAME: set[tuple[str, str]] = set()
"""Operations and algorithms of theirs on this processor that nothing takes or tries of its own
accord: neither "default" nor what compares times."""

ALGORITHMS_OF = {
    **dict.fromkeys(("conv1d", "conv3d"), "conv2d"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose3d"), "conv_transpose2d"),
}
"""Operations of torch that are selected by names of their own and computed by the algorithms of
another one."""


@dataclass(frozen=True)
class Operation:
    """How torch spells an operation.

    `module` is the type's qualified name. `functions` are qualified names of functions and, as
    "Tensor.relu", of methods, all with the parameters: inputs, `weights`, `attributes` in order.
    `fixed` holds attributes that must have the given value, with the reason why.
    """

    name: str
    module: str | None = None
    functions: tuple[str, ...] = ()
    inputs: int = 1
    weights: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    in_place: bool = False
    """Whether 'direct' may write its output over its first input."""
    view: bool = False
    """Whether the output is the input's memory under another shape."""


def _functional(name: str) -> tuple[str, ...]:
    return (f"torch.nn.functional.{name}",)


def _everywhere(name: str) -> tuple[str, ...]:
    return (f"torch.{name}", f"torch.{name}_", f"Tensor.{name}", f"Tensor.{name}_")


_IN_PLACE: dict[str, Any] = {"inplace": False}

OPERATIONS: dict[str, Operation] = {
    op.name: op
    for op in (
        Operation(
            "conv2d",
            module="torch.nn.modules.conv.Conv2d",
            weights=("weight", "bias"),
            attributes={
                "stride": 1,
                "padding": 0,
                "dilation": 1,
                "groups": 1,
                "padding_mode": "zeros",
            },
        ),
        Operation(
            "linear",
            module="torch.nn.modules.linear.Linear",
            functions=("torch.nn.functional.linear",),
            weights=("weight", "bias"),
        ),
        Operation(
            "maxpool2d",
            module="torch.nn.modules.pooling.MaxPool2d",
            attributes={
                "kernel_size": REQUIRED,
                "stride": None,
                "padding": 0,
                "dilation": 1,
                "ceil_mode": False,
                "return_indices": False,
            },
            fixed={"return_indices": (False, "indices of the maxima are not computed")},
        ),
        Operation(
            "avgpool2d",
            module="torch.nn.modules.pooling.AvgPool2d",
            attributes={
                "kernel_size": REQUIRED,
                "stride": None,
                "padding": 0,
                "ceil_mode": False,
                "count_include_pad": True,
                "divisor_override": None,
            },
        ),
        Operation(
            "adaptiveavgpool2d",
            module="torch.nn.modules.pooling.AdaptiveAvgPool2d",
            attributes={"output_size": REQUIRED},
        ),
        Operation(
            "relu",
            module="torch.nn.modules.activation.ReLU",
            functions=(
                "torch.nn.functional.relu",
                "torch.nn.functional.relu_",
                "torch.relu",
                "torch.relu_",
                "Tensor.relu",
                "Tensor.relu_",
            ),
            attributes={"inplace": False},
            in_place=True,
        ),
        *(
            Operation(
                name,
                module=f"torch.nn.modules.activation.{module}",
                functions=functions,
                attributes=attributes,
                in_place=True,
            )
            for name, module, functions, attributes in (
                ("relu6", "ReLU6", _functional("relu6"), _IN_PLACE),
                (
                    "leaky_relu",
                    "LeakyReLU",
                    (*_functional("leaky_relu"), "torch.nn.functional.leaky_relu_"),
                    {"negative_slope": 0.01, **_IN_PLACE},
                ),
                ("silu", "SiLU", _functional("silu"), _IN_PLACE),
                ("hardswish", "Hardswish", _functional("hardswish"), _IN_PLACE),
                ("hardsigmoid", "Hardsigmoid", _functional("hardsigmoid"), _IN_PLACE),
                ("sigmoid", "Sigmoid", (*_functional("sigmoid"), *_everywhere("sigmoid")), {}),
                ("tanh", "Tanh", (*_functional("tanh"), *_everywhere("tanh")), {}),
                ("gelu", "GELU", _functional("gelu"), {"approximate": "none"}),
                (
                    "elu",
                    "ELU",
                    (*_functional("elu"), "torch.nn.functional.elu_"),
                    {"alpha": 1.0, **_IN_PLACE},
                ),
            )
        ),
        Operation(
            "flatten",
            module="torch.nn.modules.flatten.Flatten",
            functions=("torch.flatten", "Tensor.flatten"),
            attributes={"start_dim": 0, "end_dim": -1},
            view=True,
        ),
        Operation(
            "batchnorm2d",
            module="torch.nn.modules.batchnorm.BatchNorm2d",
            weights=("weight", "bias", "running_mean", "running_var"),
            attributes={"eps": 1e-5},
        ),
        Operation(
            "batch_norm",
            weights=("weight", "bias", "running_mean", "running_var"),
            attributes={"eps": 1e-5},
        ),
        *(
            Operation(
                name,
                functions=(
                    f"operator.{operator}",
                    f"operator.i{operator}",
                    f"torch.{name}",
                    f"Tensor.{name}",
                    f"Tensor.{name}_",
                ),
                inputs=2,
                attributes=attributes,
                in_place=True,
            )
            for name, operator, attributes in (
                ("add", "add", {"alpha": 1}),
                ("sub", "sub", {"alpha": 1}),
                ("mul", "mul", {}),
                ("div", "truediv", {}),
            )
        ),
        Operation("pointwise", inputs=-1, attributes={"program": REQUIRED}, in_place=True),
        Operation(
            "concat",
            functions=("torch.cat", "torch.concat", "torch.concatenate"),
            inputs=-1,
            attributes={"dim": 0},
        ),
        Operation(
            "stack",
            functions=("torch.stack",),
            inputs=-1,
            attributes={"dim": 0},
        ),
        Operation("interleave", inputs=-1, attributes={"dim": 0, "start": 0, "end": None}),
        Operation("reshape", attributes={"shape": REQUIRED}, view=True),
        Operation("permute", functions=("torch.permute",), attributes={"dims": REQUIRED}),
        Operation("reorder", attributes={"layout": REQUIRED}),
        Operation(
            "expand_depthwise",
            weights=("expand_weight", "expand_bias", "depthwise_weight", "depthwise_bias"),
            attributes={"stride": 1, "padding": 0, "dilation": 1},
        ),
        Operation("slice", attributes={"dim": 0, "start": 0, "end": None, "step": 1}),
        Operation("expand", attributes={"shape": REQUIRED}),
        Operation(
            "roll",
            functions=("torch.roll", "Tensor.roll"),
            attributes={"shifts": REQUIRED, "dims": None},
        ),
        Operation(
            "pad",
            functions=("torch.nn.functional.pad",),
            attributes={"pad": REQUIRED, "mode": "constant", "value": None},
        ),
        Operation(
            "layer_norm",
            module="torch.nn.modules.normalization.LayerNorm",
            weights=("weight", "bias"),
            attributes={"normalized_shape": REQUIRED, "eps": 1e-5},
            in_place=True,
        ),
        Operation(
            "group_norm",
            module="torch.nn.modules.normalization.GroupNorm",
            weights=("weight", "bias"),
            attributes={"num_groups": REQUIRED, "eps": 1e-5},
            in_place=True,
        ),
        Operation(
            "local_response_norm",
            module="torch.nn.modules.normalization.LocalResponseNorm",
            functions=("torch.nn.functional.local_response_norm",),
            attributes={"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
        ),
        Operation(
            "softmax",
            module="torch.nn.modules.activation.Softmax",
            attributes={"dim": REQUIRED},
            in_place=True,
        ),
        *(
            Operation(
                name,
                functions=(f"torch.{name}", f"Tensor.{name}"),
                attributes={"dim": None, "keepdim": False},
            )
            for name in ("mean", "sum", "amax")
        ),
        *(
            Operation(
                name,
                functions=(f"torch.{name}", f"Tensor.{name}"),
                attributes={"dim": None, "keepdim": False},
            )
            for name in ("argmax", "argmin", "prod")
        ),
        *(Operation(name, attributes={"dim": None}) for name in ("cumsum", "cumprod")),
        Operation("sort", attributes={"dim": -1, "descending": False}),
        Operation(
            "argsort",
            functions=("torch.argsort", "Tensor.argsort"),
            attributes={"dim": -1, "descending": False, "stable": True},
        ),
        *(Operation(name, inputs=2, attributes={"dim": 0}) for name in ("index_select", "gather")),
        Operation("scatter", inputs=3, attributes={"dim": 0, "reduce": "set"}),
        Operation(
            "recurrence",
            inputs=-1,
            weights=("weight_hh", "bias_hh", "weight_hr"),
            attributes={"cell": REQUIRED, "reverse": False},
        ),
        Operation("flip", attributes={"dims": REQUIRED}),
        Operation("take", attributes={"dim": 0, "indices": REQUIRED}),
        Operation("matmul", inputs=2),
        Operation(
            "scaled_dot_product_attention",
            inputs=-1,
            attributes={"is_causal": False, "scale": None},
        ),
        Operation(
            "normalize",
            attributes={"dim": 1, "eps": 1e-12},
            in_place=True,
        ),
        Operation(
            "interpolate",
            attributes={
                "size": None,
                "scale_factor": None,
                "mode": "nearest",
                "align_corners": None,
                "recompute_scale_factor": None,
            },
        ),
        Operation(
            "conv_transpose2d",
            module="torch.nn.modules.conv.ConvTranspose2d",
            functions=("torch.nn.functional.conv_transpose2d", "torch.conv_transpose2d"),
            weights=("weight", "bias"),
            attributes={
                "stride": 1,
                "padding": 0,
                "output_padding": 0,
                "groups": 1,
                "dilation": 1,
            },
        ),
    )
}

VANISHING = (
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.dropout.Dropout1d",
    "torch.nn.modules.dropout.Dropout2d",
    "torch.nn.modules.dropout.Dropout3d",
    "torch.nn.modules.dropout.AlphaDropout",
    "torch.nn.modules.dropout.FeatureAlphaDropout",
    "torch.nn.modules.linear.Identity",
)
"""Modules and functions that do nothing in inference."""
