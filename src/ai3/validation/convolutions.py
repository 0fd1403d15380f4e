"""Convolutions, their gradients and transposed ones: named cases, and cases drawn at random."""

from collections.abc import Iterator, Mapping
from typing import Any

from ai3.validation.case import Case, Draw, Shape


def convolution(
    input: Shape,
    oc: int,
    kernel: tuple[int, int],
    attributes: Mapping[str, Any] | None = None,
    bias: bool = True,
) -> Case:
    """A conv2d of (N, IC, IH, IW) or (IC, IH, IW)."""
    attributes = attributes or {}
    weight = (oc, input[-3] // attributes.get("groups", 1), *kernel)
    return Case("conv2d", (input,), (weight, (oc,) if bias else None), attributes)


CONVOLUTIONS = {
    "3x3": convolution((2, 16, 14, 14), 32, (3, 3), {"padding": 1}),
    "3x3_no_padding": convolution((1, 5, 9, 10), 33, (3, 3)),
    "3x3_no_bias": convolution((1, 4, 8, 8), 8, (3, 3), {"padding": 1}, bias=False),
    "unbatched": convolution((3, 12, 10), 7, (3, 3), {"padding": 1}),
    "batch_5": convolution((5, 3, 6, 7), 4, (3, 3), {"padding": 1}),
    "1x1": convolution((2, 35, 7, 7), 65, (1, 1)),
    "1x1_half_a_vector": convolution((1, 40, 5, 9), 24, (1, 1)),
    "3x3_half_a_vector": convolution((1, 24, 13, 12), 40, (3, 3), {"padding": 1}),
    "1x1_strided": convolution((1, 8, 9, 9), 16, (1, 1), {"stride": 2}),
    "one_pixel": convolution((1, 1, 1, 1), 1, (1, 1)),
    "one_pixel_padded": convolution((2, 3, 1, 1), 5, (3, 3), {"padding": 1}),
    "kernel_is_image": convolution((1, 4, 6, 5), 9, (6, 5)),
    "wide_row": convolution((1, 2, 3, 150), 3, (3, 3), {"padding": 1}),
    "wide_row_cut": convolution((1, 2, 2, 131), 40, (1, 3)),
    "deep_and_narrow": convolution((1, 260, 14, 14), 40, (3, 3), {"padding": 1}),
    "deep_and_narrow_strided": convolution(
        (2, 130, 23, 11), 17, (5, 3), {"stride": 2, "padding": 1}
    ),
    "tall": convolution((1, 2, 140, 2), 3, (3, 1), {"padding": (1, 0)}),
    "stride_2": convolution((1, 6, 15, 17), 24, (3, 3), {"stride": 2, "padding": 1}),
    "stride_pair": convolution((2, 4, 14, 20), 17, (3, 5), {"stride": (2, 3), "padding": (1, 2)}),
    "7x7_stride_2": convolution((1, 3, 37, 37), 20, (7, 7), {"stride": 2, "padding": 3}),
    "11x11_stride_4": convolution((1, 3, 47, 51), 18, (11, 11), {"stride": 4, "padding": 2}),
    "dilated": convolution((1, 5, 16, 15), 6, (3, 3), {"dilation": 2, "padding": 2}),
    "stride_3": convolution((1, 4, 20, 22), 9, (4, 5), {"stride": 3, "padding": 2}),
    "few_pixels_deep": convolution((2, 70, 6, 7), 37, (3, 3), {"padding": 1}),
    "few_pixels_grouped": convolution((2, 24, 5, 5), 80, (3, 3), {"groups": 2, "padding": 1}),
    "one_pixel_wide": convolution((2, 300, 1, 1), 70, (1, 1)),
    "one_pixel_of_one_image": convolution((1, 300, 1, 1), 70, (1, 1)),
    "one_pixel_of_whole_blocks": convolution(
        (3, 64, 1, 1), 96, (1, 1), {"stride": 2, "dilation": 3}
    ),
    "one_pixel_unbatched": convolution((37, 1, 1), 50, (1, 1)),
    "one_pixel_of_many_images": convolution((24, 32, 1, 1), 48, (1, 1)),
    "many_narrow_groups": convolution((1, 60, 9, 20), 120, (3, 3), {"groups": 30, "padding": 1}),
    "31x31": convolution((1, 3, 40, 37), 5, (31, 31), {"padding": 15}),
    "31x31_depthwise": convolution((2, 18, 45, 29), 36, (31, 31), {"padding": 15, "groups": 18}),
    "11x11_dilated": convolution((1, 3, 70, 20), 20, (11, 3), {"padding": 2, "dilation": (6, 5)}),
    "15x15_replicate": convolution(
        (1, 18, 20, 21), 4, (15, 15), {"padding": 9, "padding_mode": "replicate"}
    ),
    "more_than_a_transform": convolution((1, 2, 131, 5), 3, (129, 3), {"padding": 1}),
    "kernel_beyond_a_block": convolution((1, 2, 40, 17), 5, (13, 12), {"padding": 6}),
    "dilated_pair": convolution((1, 5, 16, 25), 6, (2, 3), {"dilation": (3, 4), "padding": (1, 4)}),
    "padding_beyond_kernel": convolution((1, 2, 4, 4), 3, (3, 3), {"padding": 4}),
    "same_even_kernel": convolution((1, 3, 9, 8), 4, (4, 2), {"padding": "same"}),
    "same_dilated": convolution((1, 3, 9, 8), 4, (3, 2), {"padding": "same", "dilation": 3}),
    "valid": convolution((1, 3, 9, 8), 4, (3, 2), {"padding": "valid"}),
    "reflect": convolution((2, 3, 7, 6), 5, (3, 3), {"padding": (3, 2), "padding_mode": "reflect"}),
    "replicate": convolution((1, 3, 5, 6), 5, (5, 3), {"padding": 2, "padding_mode": "replicate"}),
    "circular": convolution(
        (1, 3, 5, 6), 20, (3, 3), {"padding": (5, 1), "padding_mode": "circular"}
    ),
    "same_reflect": convolution(
        (1, 2, 9, 9), 3, (4, 4), {"padding": "same", "padding_mode": "reflect"}
    ),
    "groups_2": convolution((1, 8, 11, 13), 16, (3, 3), {"groups": 2, "padding": 1}),
    "groups_tails": convolution((2, 9, 6, 6), 21, (3, 3), {"groups": 3, "padding": 1}),
    "grouped_wide": convolution((1, 6, 8, 8), 66, (3, 3), {"groups": 2, "padding": 1}),
    "grouped_few_pixels": convolution((1, 704, 3, 3), 1232, (3, 3), {"groups": 11, "padding": 1}),
    "groups_of_blocks": convolution((2, 32, 13, 11), 96, (3, 3), {"groups": 2, "padding": 1}),
    "groups_of_blocks_5x5": convolution((1, 64, 9, 14), 64, (5, 5), {"groups": 4, "padding": 2}),
    "many_groups_of_blocks": convolution(
        (1, 160, 5, 6), 160, (3, 3), {"groups": 10, "padding": 1}, bias=False
    ),
    "depthwise": convolution((2, 20, 14, 15), 20, (3, 3), {"groups": 20, "padding": 1}),
    "depthwise_stride_2": convolution(
        (1, 5, 13, 12), 5, (5, 5), {"groups": 5, "stride": 2, "padding": 2}
    ),
    "depthwise_multiplier": convolution((1, 4, 9, 9), 12, (3, 3), {"groups": 4, "padding": 1}),
    "depthwise_circular": convolution(
        (1, 4, 9, 9), 4, (3, 3), {"groups": 4, "padding": 1, "padding_mode": "circular"}
    ),
    "depthwise_wide": convolution((1, 3, 11, 83), 3, (3, 3), {"groups": 3, "padding": 1}),
    "depthwise_wide_stride_2": convolution(
        (2, 17, 10, 91), 17, (7, 7), {"groups": 17, "padding": 3, "stride": 2}
    ),
    "depthwise_dilated": convolution(
        (1, 18, 12, 45), 18, (3, 3), {"groups": 18, "padding": 2, "dilation": 2}
    ),
    "depthwise_not_square": convolution(
        (1, 33, 9, 50), 33, (3, 5), {"groups": 33, "padding": (0, 2)}
    ),
    "depthwise_small": convolution((2, 67, 7, 7), 67, (5, 5), {"groups": 67, "padding": 2}),
    "depthwise_one_vector": convolution((1, 5, 16, 16), 5, (5, 5), {"groups": 5, "padding": 2}),
    "depthwise_two_vectors": convolution(
        (2, 3, 17, 29), 6, (3, 3), {"groups": 3, "stride": 2, "padding": 1}
    ),
    "depthwise_7x7": convolution((1, 40, 8, 30), 40, (7, 7), {"groups": 40, "padding": 3}),
    "depthwise_in_padding": convolution(
        (1, 19, 2, 3), 19, (3, 3), {"groups": 19, "padding": (4, 5)}
    ),
    "depthwise_strided_dilated": convolution(
        (1, 34, 20, 37),
        34,
        (5, 3),
        {"groups": 34, "stride": (2, 3), "dilation": 3, "padding": (6, 2)},
    ),
    "empty_batch": convolution((0, 3, 8, 8), 4, (3, 3)),
}
"""What conv2d's algorithms are tried with; the gradients' too."""

MORE_CONVOLUTIONS = {
    "padding_beyond_kernel_strided": convolution(
        (1, 2, 5, 7), 3, (3, 2), {"padding": (5, 4), "stride": (2, 3)}
    ),
    "stride_and_dilation_share_a_factor": convolution(
        (2, 3, 17, 19), 5, (3, 4), {"stride": (4, 6), "dilation": (2, 3), "padding": 2}
    ),
    "stride_beyond_kernel": convolution(
        (2, 6, 17, 13), 18, (2, 1), {"stride": (4, 3), "padding": (1, 0)}
    ),
    "rows_never_read": convolution((1, 3, 10, 11), 4, (3, 3), {"stride": 3}),
    "reflect_strided": convolution(
        (2, 4, 9, 8), 6, (3, 3), {"padding": 2, "stride": 2, "groups": 2, "padding_mode": "reflect"}
    ),
    "circular_strided": convolution(
        (1, 2, 7, 8), 3, (5, 3), {"padding": (4, 2), "stride": (1, 2), "padding_mode": "circular"}
    ),
    "replicate_beyond_kernel": convolution(
        (1, 2, 4, 4), 3, (3, 3), {"padding": 4, "padding_mode": "replicate"}
    ),
    "many_images": convolution((19, 5, 4, 4), 18, (3, 3), {"padding": 1}),
    "many_pixels": convolution((2, 2, 70, 90), 17, (1, 1)),
    "aligned_planes": convolution((2, 20, 32, 16), 18, (1, 1)),
    "aligned_planes_padded": convolution((2, 3, 30, 62), 17, (3, 3), {"padding": 1}),
    "1x1_grouped": convolution((2, 51, 9, 7), 54, (1, 1), {"groups": 3}),
    "1x1_many_outputs": convolution((1, 17, 40, 31), 300, (1, 1)),
    "one_long_row": convolution((1, 3, 1, 5000), 18, (1, 3), {"padding": (0, 1)}),
    "depthwise_wide": convolution((2, 3, 5, 70), 3, (5, 5), {"groups": 3, "padding": 2}),
    "depthwise_stride_3": convolution((1, 4, 11, 60), 8, (3, 3), {"groups": 4, "stride": 3}),
    "depthwise_stride_2": convolution(
        (2, 5, 15, 37), 5, (3, 3), {"groups": 5, "stride": 2, "padding": 1}
    ),
    "depthwise_stride_2_even": convolution((1, 3, 8, 70), 3, (5, 4), {"groups": 3, "stride": 2}),
    "depthwise_strides_differ": convolution(
        (1, 4, 11, 23), 4, (3, 5), {"groups": 4, "stride": (1, 3), "padding": (2, 1)}
    ),
    "depthwise_rows_strided": convolution(
        (3, 2, 12, 19), 2, (3, 3), {"groups": 2, "stride": (3, 1), "padding": (0, 2)}
    ),
    "depthwise_stride_beyond_kernel": convolution(
        (1, 3, 17, 40), 3, (1, 1), {"groups": 3, "stride": 2}
    ),
    "depthwise_dilated_strided": convolution(
        (1, 3, 20, 41), 3, (3, 3), {"groups": 3, "stride": 2, "dilation": (2, 3), "padding": 3}
    ),
    "depthwise_padding_beyond_kernel": convolution(
        (1, 2, 4, 5), 2, (3, 2), {"groups": 2, "stride": 2, "padding": (5, 4)}
    ),
    "depthwise_circular_strided": convolution(
        (1, 2, 7, 8),
        2,
        (3, 3),
        {"groups": 2, "stride": 2, "padding": 1, "padding_mode": "circular"},
    ),
    "depthwise_columns_never_read": convolution(
        (1, 2, 9, 36), 2, (2, 2), {"groups": 2, "stride": (2, 3)}
    ),
    "groups_of_4": convolution((2, 16, 9, 33), 16, (3, 3), {"groups": 4, "padding": 1}),
    "groups_of_6": convolution((1, 12, 9, 40), 12, (3, 1), {"groups": 2, "stride": 2}),
}
"""Beside them, what the gradients are tried with."""


def output_size(case: Case) -> tuple[int, int]:
    """(OH, OW) of a conv2d."""
    attributes, (kh, kw) = case.attributes, (case.weights[0] or ())[2:]
    padding = attributes.get("padding", 0)
    if padding == "same":
        ih, iw = case.inputs[0][-2:]
        return ih, iw
    pads = pair(0 if padding == "valid" else padding)
    sizes = zip(
        case.inputs[0][-2:],
        (kh, kw),
        pads,
        pair(attributes.get("stride", 1)),
        pair(attributes.get("dilation", 1)),
        strict=True,
    )
    oh, ow = ((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, p, s, d in sizes)
    return oh, ow


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def gradients_of(case: Case) -> Iterator[Case]:
    """The problems of the derivatives of a conv2d by its input, weight and bias."""
    (x,), (weight, _) = case.inputs, case.weights
    assert weight is not None
    grad = (*x[:-3], weight[0], *output_size(case))
    by_input = {**case.attributes, "input_size": x[-2:]}
    yield Case("conv2d_grad_input", (grad,), (weight,), by_input)
    by_weight = {**case.attributes, "kernel_size": weight[2:]}
    yield Case("conv2d_grad_weight", (x, grad), (), by_weight)
    yield Case("conv2d_grad_bias", (grad,))


def draw_convolution(draw: Draw, op: str = "conv2d") -> Case:
    small = draw.integer
    groups = small(1, 4)
    kernel = (small(1, 5), small(1, 5))
    dilation = (small(1, 3), small(1, 3))
    padding = (small(0, 3), small(0, 3))
    mode = draw.choice(["zeros", "reflect", "replicate", "circular"])
    needed = [
        max(d * (k - 1) + 1 - 2 * p, p + 1)
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    shape = (small(1, 3), groups * small(1, 9), *(n + small(0, 20) for n in needed))
    attributes = {
        "stride": (small(1, 4), small(1, 4)),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
    }
    plain = {name: value for name, value in attributes.items() if value not in (1, "zeros")}
    bias = draw.choice([False, True])
    case = convolution(shape, groups * small(1, 20), kernel, plain, bias)
    return next(c for c in (case, *gradients_of(case)) if c.op == op)


def _transposed(input: Shape, weight: Shape, attributes: Mapping[str, Any]) -> Case:
    bias = (weight[1] * attributes.get("groups", 1),)
    return Case("conv_transpose2d", (input,), (weight, bias), attributes)


TRANSPOSED = {
    "plain": _transposed((2, 3, 5, 7), (3, 4, 3, 3), {}),
    "upsampling": _transposed((1, 8, 7, 9), (8, 5, 2, 2), {"stride": 2}),
    "upsampling_smooth": _transposed((1, 6, 7, 7), (6, 6, 4, 4), {"stride": 2, "padding": 1}),
    "added": _transposed(
        (2, 3, 6, 5), (3, 4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}
    ),
    "uneven": _transposed(
        (1, 3, 5, 6),
        (3, 2, 2, 5),
        {"stride": (3, 2), "padding": (0, 2), "output_padding": (2, 0)},
    ),
    "dilated": _transposed((1, 3, 5, 6), (3, 2, 3, 2), {"dilation": (2, 3), "padding": 1}),
    "dilated_strided": _transposed((1, 3, 5, 6), (3, 2, 3, 3), {"dilation": 3, "stride": 2}),
    "groups": _transposed((2, 6, 5, 5), (6, 4, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": _transposed(
        (1, 19, 6, 6), (19, 1, 3, 3), {"groups": 19, "stride": 2, "padding": 1}
    ),
    "single": _transposed((3, 5, 7), (3, 4, 3, 3), {"stride": 2}),
    "pointwise": _transposed((1, 3, 5, 5), (3, 7, 1, 1), {}),
    "gaps": _transposed((1, 3, 4, 4), (3, 2, 2, 2), {"stride": 5}),
}


def draw_transposed(draw: Draw, op: str) -> Case:
    small = draw.integer
    groups, kernel = small(1, 3), (small(1, 4), small(1, 4))
    stride, dilation = (small(1, 3), small(1, 3)), (small(1, 2), small(1, 2))
    padding = tuple(small(0, (k - 1) // 2) for k in kernel)
    added = tuple(small(0, s - 1) for s in stride)
    attributes = {
        "stride": stride,
        "padding": padding,
        "output_padding": added,
        "groups": groups,
        "dilation": dilation,
    }
    weight = (groups * small(1, 6), small(1, 20), *kernel)
    shape = (small(1, 3), weight[0], small(2, 9), small(2, 9))
    bias = (groups * weight[1],) if draw.choice([False, True]) else None
    return Case(op, (shape,), (weight, bias), attributes)
