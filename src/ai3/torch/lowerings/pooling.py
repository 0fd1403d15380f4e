"""Pooling of any number of dimensions."""

from typing import Any

from ai3.graph.expression import Expression, shape_of
from ai3.torch.lowerings.convolution import of
from ai3.torch.lowerings.images import over_depth, planes, rows, tensor_of
from ai3.torch.lowerings.pointwise import pointwise
from ai3.torch.lowerings.shapes import reshape
from ai3.torch.lowerings.table import Builder, Int, lowers
from ai3.torch.stand_ins import Refusal, Value


def _pooled(
    b: Builder, op: str, x: Value, dims: int, attributes: dict[str, Any], settings: dict[str, Any]
) -> Value:
    """Windows of `dims` dimensions: a pixel, a row or a box of planes at a time. `attributes` are
    one number, or one for each dimension; an average or maximum over a box is that over depth of
    those over planes, of borders too."""
    kernel = attributes["kernel_size"]
    stride = attributes["stride"]
    given = {**attributes, "stride": kernel if stride is None or stride in ([], ()) else stride}
    given = {name: of(dims, value) for name, value in given.items()}
    if dims == 2:
        return b.add(op, [x], {**given, **settings})
    if dims == 1:
        image = rows(b, x)
        whole = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        given = {name: (whole[name], *value) for name, value in given.items()}
        return tensor_of(b, image, b.add(op, [image.value], {**given, **settings}))
    image = planes(b, x)
    divisor = settings.pop("divisor_override", None)
    flat = {name: value[1:] for name, value in given.items()}
    deep = {name: (value[0], 0 if name == "padding" else 1) for name, value in given.items()}
    if op == "avgpool2d":
        # Of the sums over planes the sums over depth.
        settings = {**settings, "divisor_override": None if divisor is None else 1}
    y = b.add(op, [image.value], {**flat, **settings})
    if divisor is not None:
        settings = {**settings, "divisor_override": divisor}
    return over_depth(b, image, y, lambda v: b.add(op, [v], {**deep, **settings}))


def _max_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Value:
        if return_indices:
            raise Refusal("max pooling that gives the indices of the maxima too")
        sizes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }
        return _pooled(b, "maxpool2d", x, dims, sizes, {"ceil_mode": ceil_mode})

    return lower


def _avg_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        sizes = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        settings = {
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor_override,
        }
        return _pooled(b, "avgpool2d", x, dims, sizes, settings)

    return lower


def adaptive_avg_pool(dims: int) -> Any:
    def lower(b: Builder, x: Value, output_size: Any) -> Value:
        sizes = of(dims, output_size)
        op = "adaptiveavgpool2d"
        if dims == 2:
            return b.add(op, [x], {"output_size": sizes})
        if dims == 1:
            image = rows(b, x)
            return tensor_of(b, image, b.add(op, [image.value], {"output_size": (1, *sizes)}))
        image = planes(b, x)
        y = b.add(op, [image.value], {"output_size": sizes[1:]})
        deep = {"output_size": (sizes[0], None)}
        return over_depth(b, image, y, lambda v: b.add(op, [v], deep))

    return lower


def _adaptive_max_pool(dims: int) -> Any:
    def lower(b: Builder, x: Value, output_size: Any, return_indices: bool = False) -> Value:
        """The greatest in each window, dimension by dimension."""
        if return_indices:
            raise Refusal("max pooling that gives the indices of the maxima too")
        for dim, size in zip(range(-dims, 0), of(dims, output_size), strict=True):
            if size is not None:
                x = _greatest_in_bins(b, x, dim, size)
        return x

    return lower


def _greatest_in_bins(b: Builder, x: Value, dim: int, count: Int) -> Value:
    indices = Expression("bins", (shape_of(x.name)[dim], count))
    x = b.add("take", [x], {"dim": dim, "indices": indices})
    x = reshape(b, x, Expression("unflattened", (shape_of(x.name), dim, (count, -1))))
    return b.add("amax", [x], {"dim": dim, "keepdim": False})


def _lp_pool(dims: int) -> Any:
    def lower(
        b: Builder,
        x: Value,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> Value:
        """The p-th root of the sum of p-th powers."""
        powers = pointwise(b, "pow(x, p)", x=x, p=float(norm_type))
        sums = _avg_pool(dims)(b, powers, kernel_size, stride, 0, ceil_mode)
        count = 1
        for extent in of(dims, kernel_size):
            count *= extent
        return pointwise(
            b,
            "pow(sign(m) * maximum(abs(m), 0.0) * count, 1 / p)",
            m=sums,
            count=float(count),
            p=float(norm_type),
        )

    return lower


for _dims in (1, 2, 3):
    _d = f"{_dims}d"
    _names = {
        f"max_pool{_d}": _max_pool,
        f"avg_pool{_d}": _avg_pool,
        f"adaptive_avg_pool{_d}": adaptive_avg_pool,
    }
    for _name, _make in _names.items():
        lowers(f"torch.nn.functional.{_name}", f"torch.{_name}")(_make(_dims))
    lowers(f"torch.nn.functional.adaptive_max_pool{_d}")(_adaptive_max_pool(_dims))
    lowers(f"torch.nn.functional.lp_pool{_d}")(_lp_pool(_dims))


def _with_indices(lower: Any) -> Any:
    """As torch.export has it: the maxima, and their indices, which only must not be read."""

    def pair(b: Builder, *arguments: Any, **named: Any) -> tuple[Any, None]:
        return lower(b, *arguments, **named), None

    return pair


for _dims in (1, 2, 3):
    lowers(f"aten.adaptive_max_pool{_dims}d")(_with_indices(_adaptive_max_pool(_dims)))
    lowers(f"aten.max_pool{_dims}d_with_indices")(_with_indices(_max_pool(_dims)))
