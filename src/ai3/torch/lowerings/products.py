"""Products of matrices, and attention."""

import math
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import permuted
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


@lowers("torch.matmul", "Tensor.matmul", "_operator.matmul", "torch.bmm", "Tensor.bmm", "torch.mm")
def matmul(b: Builder, x: Any, y: Any) -> Value:
    return b.add("matmul", [x, y])


@lowers("torch.functional.einsum", "torch.einsum")
def _einsum(b: Builder, equation: str, *operands: Any) -> Value:
    """Of two operands, as one batched matrix product."""
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or not result or "." in equation or any(len(set(t)) < len(t) for t in terms):
        raise Refusal(f"einsum of {equation!r}: only of two operands with an explicit result")
    first, second = terms
    batch = [c for c in result if c in first and c in second]
    rows = [c for c in result if c in first and c not in second]
    columns = [c for c in result if c in second and c not in first]
    inner = [c for c in first if c in second and c not in result]
    if (
        len(inner) != 1
        or len(rows) != 1
        or len(columns) != 1
        or set(first + second) - {*batch, *rows, *columns, *inner}
    ):
        raise Refusal(f"einsum of {equation!r}: only what is a batched matrix product")

    def ordered(x: Any, term: str, order: list[str]) -> Any:
        dims = tuple(term.index(c) for c in order)
        return x if list(dims) == list(range(len(dims))) else permuted(b, b.value(x), dims)

    product = matmul(
        b,
        ordered(operands[0], first, [*batch, *rows, *inner]),
        ordered(operands[1], second, [*batch, *inner, *columns]),
    )
    return ordered(product, "".join([*batch, *rows, *columns]), list(result))


def additive(b: Builder, mask: Any) -> Any:
    """A mask that is added to the scores; of truth values, which say what takes part, made so."""
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=b.dtype).masked_fill(~mask, -math.inf)
    if isinstance(mask, Value) and mask.dtype == torch.bool:
        return pointwise(b, "where(mask, 0.0, -inf)", mask=mask)
    return mask


@lowers("torch._C._nn.scaled_dot_product_attention")
def attention(
    b: Builder,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p:
        raise Refusal("scaled_dot_product_attention with dropout, which is random")
    if enable_gqa:
        # Each head of keys and values is for as many heads of queries, one after the other.
        heads = [shape_of(b.value(x).name)[-3] for x in (query, key, value)]
        key, value = (
            b.add(
                "take",
                [x],
                {"dim": -3, "indices": Expression("each repeated", (own, heads[0] // own))},
            )
            for x, own in zip((key, value), heads[1:], strict=True)
        )
    inputs = [query, key, value, *([] if attn_mask is None else [additive(b, attn_mask)])]
    attributes = {"is_causal": is_causal, "scale": scale}
    return b.add("scaled_dot_product_attention", inputs, attributes)


@lowers("torch.nn.functional.softmax", "torch.softmax", "Tensor.softmax", "aten.softmax")
def softmax(b: Builder, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    if dim is None or (dtype is not None and dtype != b.dtype):
        raise Refusal("softmax without a dimension, or to another dtype")
    return b.add("softmax", [x], {"dim": dim})
