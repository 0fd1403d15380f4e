"""Products of matrices, and attention."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import permuted, reshape, transpose
from ai3.torch.lowerings.table import Builder, lowers
from ai3.torch.stand_ins import Refusal, Value


@lowers(
    "_operator.matmul", *(f"{p}.{n}" for n in ("matmul", "bmm", "mm") for p in ("torch", "Tensor"))
)
def matmul(b: Builder, x: Any, y: Any) -> Value:
    return b.add("matmul", [x, y])


@lowers("torch.functional.einsum", "torch.einsum")
def _einsum(b: Builder, equation: str, *operands: Any, path: Any = None) -> Value:
    """Operand by operand, as batched matrix products."""
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1))
    if "." in equation:
        return _einsum_of_matrices(b, equation, terms, result, operands)
    if any(len(set(term)) < len(term) for term in terms):
        raise Refusal(f"einsum of {equation!r}, which reads a diagonal")
    term, x = terms[0], b.value(operands[0])
    for i in range(1, len(terms)):
        kept = "".join(terms[i + 1 :]) + result
        term, x = _contracted(b, term, x, terms[i], b.value(operands[i]), kept)
    x = _summed(b, x, term, "".join(c for c in term if c not in result))
    term = "".join(c for c in term if c in result)
    return _ordered(b, x, term, result)


def _contracted(
    b: Builder, first: str, x: Value, second: str, y: Value, kept: str
) -> tuple[str, Value]:
    """The product of two tensors with named dimensions, of which those in `kept` are left."""
    extents = {c: shape_of(x.name)[i] for i, c in enumerate(first)}
    extents |= {c: shape_of(y.name)[i] for i, c in enumerate(second) if c not in extents}
    x = _summed(b, x, first, "".join(c for c in first if c not in second + kept))
    y = _summed(b, y, second, "".join(c for c in second if c not in first + kept))
    first = "".join(c for c in first if c in second + kept)
    second = "".join(c for c in second if c in first + kept)
    both = [c for c in first if c in second]
    batch, inner = [c for c in both if c in kept], [c for c in both if c not in kept]
    rows, columns = [c for c in first if c not in both], [c for c in second if c not in both]

    def joined(x: Value, *groups: list[str]) -> Value:
        """With each group one dimension, after those of the batch."""
        if all(len(group) == 1 for group in groups):
            return x
        sizes = [math.prod((extents[c] for c in group), start=1) for group in groups]
        return reshape(b, x, (*(extents[c] for c in batch), *sizes))

    product = matmul(
        b,
        joined(_ordered(b, x, first, [*batch, *rows, *inner]), rows, inner),
        joined(_ordered(b, y, second, [*batch, *inner, *columns]), inner, columns),
    )
    if len(rows) != 1 or len(columns) != 1:
        product = reshape(b, product, tuple(extents[c] for c in [*batch, *rows, *columns]))
    return "".join([*batch, *rows, *columns]), product


def _summed(b: Builder, x: Value, term: str, gone: str) -> Value:
    dims = tuple(term.index(c) for c in gone)
    return b.add("sum", [x], {"dim": dims, "keepdim": False}) if dims else x


def _ordered(b: Builder, x: Value, term: str, order: Sequence[str]) -> Value:
    dims = tuple(term.index(c) for c in order)
    return x if list(dims) == list(range(len(dims))) else permuted(b, x, dims)


def _einsum_of_matrices(
    b: Builder, equation: str, terms: Sequence[str], result: str, operands: Sequence[Any]
) -> Value:
    """Where dimensions before the matrices are not named."""
    named = [term.removeprefix("...") for term in (*terms, result)]
    if len(terms) != 2 or any(len(n) != 2 or "." in n for n in named):
        raise Refusal(f"einsum of {equation!r}, whose dimensions are not all named")
    (first, second, out), (x, y) = named, map(b.value, operands)
    inner = [c for c in first if c in second and c not in out]
    rows, columns = (out[0], out[1]) if out[0] in first else (out[1], out[0])
    if len(inner) != 1 or set(first) != {rows, inner[0]} or set(second) != {columns, inner[0]}:
        raise Refusal(f"einsum of {equation!r}, which is no product of matrices")
    x = x if first[0] == rows else transpose(b, x, -1, -2)
    y = y if second[1] == columns else transpose(b, y, -1, -2)
    product = matmul(b, x, y)
    return product if out[0] == rows else transpose(b, product, -1, -2)


def additive(b: Builder, mask: Any) -> Any:
    """A mask that is added to the scores; of truth values, which say what takes part, made so."""
    if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=b.dtype).masked_fill(~mask, -math.inf)
    if isinstance(mask, Value) and b.dtype_of(mask) == torch.bool:
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
