"""Functions of single elements, as programs of the operation `pointwise`.

A function of the core is spelled as torch spells it; `FORMULAS` has those that are made of several,
one row each, with torch's parameters.
"""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from ai3 import _core
from ai3.graph.expression import Expression, shape_of
from ai3.graph.program import Composer, literal
from ai3.torch.lowerings.movement import chunk
from ai3.torch.lowerings.shapes import reshape
from ai3.torch.lowerings.table import Builder, Lowering, lowers
from ai3.torch.stand_ins import Refusal, Value

FUNCTIONS = _core.pointwise_functions()

FORMULAS = {
    "clamp": "x, min=None, max=None: clamped(x, min, max)",
    "clamp_min": "x, min: clamped(x, min, None)",
    "clamp_max": "x, max: clamped(x, None, max)",
    "masked_fill": "x, mask, value: where(mask, value, x)",
    "addcmul": "x, tensor1, tensor2, value=1: x + value * tensor1 * tensor2",
    "addcdiv": "x, tensor1, tensor2, value=1: x + value * tensor1 / tensor2",
    "lerp": "x, end, weight: x + weight * (end - x)",
    "rsub": "x, other, alpha=1: other - alpha * x",
    "frac": "x: x - trunc(x)",
    "logit": "x, eps=None: logit(x if eps is None else clamped(x, eps, 1 - eps))",
    "nan_to_num": "x, nan=None, posinf=None, neginf=None: finite(x, nan, posinf, neginf)",
    "softplus": "x, beta=1, threshold=20: softplus(x, beta, threshold)",
    "mish": "x: x * tanh(softplus(x, 1, 20))",
    "selu": ("x: where(x > 0, 1.0507009873554804934 * x, 1.7580993408473768600 * expm1(x))"),
    "celu": "x, alpha=1.0: where(x > 0, x, alpha * expm1(x / alpha))",
    "hardtanh": "x, min_val=-1.0, max_val=1.0: clamped(x, min_val, max_val)",
    "hardshrink": "x, lambd=0.5: where((x >= -lambd) & (x <= lambd), 0.0, x)",
    "softshrink": (
        "x, lambd=0.5: where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0.0))"
    ),
    "tanhshrink": "x: x - tanh(x)",
    "softsign": "x: x / (1 + abs(x))",
    "logsigmoid": "x: minimum(x, 0.0) - log1p(exp(-abs(x)))",
    "threshold": "x, threshold, value: where(x <= threshold, value, x)",
    "rrelu": "x, lower=0.125, upper=1 / 3, training=False: leaky_relu(x, (lower + upper) / 2)",
    "heaviside": "x, values: where(x == 0, values, where(x > 0, 1.0, where(x < 0, 0.0, x)))",
    "logaddexp": "x, other: summed_log(x, other)",
    "hypot": "x, other: sqrt(x * x + other * other)",
    "xlogy": "x, other: where(isnan(other), other, where(x == 0, 0.0, x * log(other)))",
    "isposinf": "x: x == inf",
    "isneginf": "x: x == -inf",
    "deg2rad": "x: x * 0.017453292519943295",
    "rad2deg": "x: x * 57.29577951308232",
    "sinc": "x: where(x == 0, 1.0, sin(x * 3.141592653589793) / (x * 3.141592653589793))",
    "float_power": "x, exponent: pow(float64(x), exponent)",
    "sgn": "x: sign(x)",
}
"""Names of torch's functions and methods, with their parameters and what they compute: Python's
operators, functions of the core, `MACROS`."""

ALIASES = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "clip": "clamp",
    "divide": "div",
    "fix": "trunc",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "negative": "neg",
    "not_equal": "ne",
}
"""Other names of the same."""

OPERATORS = {
    "and_": "bitwise_and",
    "or_": "bitwise_or",
    "xor": "bitwise_xor",
    "invert": "bitwise_not",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
    "iand": "bitwise_and",
    "ior": "bitwise_or",
    "ixor": "bitwise_xor",
    "ilshift": "bitwise_left_shift",
    "irshift": "bitwise_right_shift",
    "mod": "remainder",
    "pow": "pow",
    "ipow": "pow",
    "floordiv": "floor_divide",
    "ifloordiv": "floor_divide",
    "abs": "abs",
    **{name: name for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
"""Python's operators, by their names in the module `operator`."""

ACTIVATIONS = {
    "softplus": "Softplus",
    "mish": "Mish",
    "selu": "SELU",
    "celu": "CELU",
    "hardtanh": "Hardtanh",
    "hardshrink": "Hardshrink",
    "softshrink": "Softshrink",
    "tanhshrink": "Tanhshrink",
    "softsign": "Softsign",
    "logsigmoid": "LogSigmoid",
    "threshold": "Threshold",
    "rrelu": "RReLU",
    "prelu": "PReLU",
    "glu": "GLU",
}
"""Functions of torch.nn.functional and the modules that call them, which are traced into."""

POWERS = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt"}


class Formula:
    """Python's notation evaluated on operands of a program: names of values, and numbers."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._macros: dict[str, Callable[..., Any]] = {
            "clamped": self._clamped,
            "softplus": self._softplus,
            "finite": self._finite,
            "logit": lambda x: self.call("log", self.call("div", x, self.call("sub", 1, x))),
            "summed_log": self._summed_log,
        }

    def evaluate(self, body: ast.expr, names: dict[str, Any]) -> Any:
        if isinstance(body, ast.Constant):
            return body.value
        if isinstance(body, ast.Name):
            return names[body.id] if body.id in names else getattr(math, body.id)
        if isinstance(body, ast.IfExp):  # only `... if name is None else ...`
            assert isinstance(body.test, ast.Compare) and isinstance(body.test.left, ast.Name)
            absent = names[body.test.left.id] is None
            return self.evaluate(body.body if absent else body.orelse, names)
        if isinstance(body, ast.Call):
            assert isinstance(body.func, ast.Name)
            return self.call(body.func.id, *(self.evaluate(a, names) for a in body.args))
        if isinstance(body, ast.UnaryOp):
            return self.call("neg", self.evaluate(body.operand, names))
        if isinstance(body, ast.Compare):
            function = _SIGNS[type(body.ops[0])]
            return self.call(
                function, self.evaluate(body.left, names), self.evaluate(body.comparators[0], names)
            )
        assert isinstance(body, ast.BinOp)
        function = _SIGNS[type(body.op)]
        return self.call(
            function, self.evaluate(body.left, names), self.evaluate(body.right, names)
        )

    def call(self, function: str, *operands: Any) -> Any:
        """A function of operands; of numbers alone, a number."""
        if function in self._macros:
            return self._macros[function](*operands)
        if function == "pow" and operands[1] in POWERS and not isinstance(operands[0], int | float):
            if operands[1] != 2 and not isinstance(operands[1], float):
                operands = (operands[0], float(operands[1]))
            return self._apply(POWERS[operands[1]], operands[0])
        if all(isinstance(operand, int | float) for operand in operands) and function in _NUMBERS:
            return _NUMBERS[function](*operands)
        return self._apply(function, *operands)

    def _apply(self, function: str, *operands: Any) -> str:
        words = [o if isinstance(o, str) else literal(o) for o in operands]
        return self._composer.apply(function, *words)

    def _clamped(self, x: Any, least: Any, most: Any) -> Any:
        if least is not None:
            x = self.call("maximum", x, least)
        return x if most is None else self.call("minimum", x, most)

    def _softplus(self, x: Any, beta: Any, threshold: Any) -> Any:
        scaled = x if beta == 1 else self.call("mul", x, beta)
        soft = self.call("log1p", self.call("exp", scaled))
        soft = soft if beta == 1 else self.call("div", soft, beta)
        return self.call("where", self.call("gt", scaled, threshold), x, soft)

    def _finite(self, x: Any, nan: Any, most: Any, least: Any) -> Any:
        limits = torch.finfo(torch.float32)
        x = self.call("where", self.call("isnan", x), 0.0 if nan is None else nan, x)
        for infinity, other, limit in (
            (math.inf, most, limits.max),
            (-math.inf, least, limits.min),
        ):
            equal = self.call("eq", x, infinity)
            x = self.call("where", equal, limit if other is None else other, x)
        return x

    def _summed_log(self, x: Any, y: Any) -> Any:
        larger, apart = self.call("maximum", x, y), self.call("sub", x, y)
        rest = self.call("log1p", self.call("exp", self.call("neg", self.call("abs", apart))))
        # Equal infinities are no distance apart.
        return self.call(
            "where",
            self.call("eq", x, y),
            self.call("add", x, math.log(2)),
            self.call("add", larger, rest),
        )


_SIGNS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.BitAnd: "bitwise_and",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
}


def pointwise(b: Builder, formula: str, **operands: Any) -> Value:
    """The node that computes a formula such as "x * tanh(y)" of tensors and numbers."""
    return _node(b, ast.parse(formula, mode="eval").body, operands)


def _node(b: Builder, body: ast.expr, operands: dict[str, Any]) -> Value:
    composer = Composer()
    values: dict[str, Value] = {}

    def operand(item: Any) -> Any:
        if item is None or isinstance(item, bool | int | float):
            return item
        if isinstance(item, torch.Tensor) and item.dim() == 0 and not item.requires_grad:
            return item.item()
        value = b.value(item)
        values[value.name] = value
        return composer.input(value.name)

    names = {name: operand(item) for name, item in operands.items()}
    result = Formula(composer).evaluate(body, names)
    if result in names.values():
        return next(b.value(operands[name]) for name, word in names.items() if word == result)
    program = composer.text(result)
    return b.add("pointwise", [values[name] for name in composer.inputs], {"program": program})


def _lowering(parameters: str) -> Lowering:
    """Of "x, min=None: body", a function of the builder and these parameters."""
    parsed = ast.parse(f"lambda {parameters}", mode="eval").body
    assert isinstance(parsed, ast.Lambda)
    names = [argument.arg for argument in parsed.args.args]
    defaults = [eval(compile(ast.Expression(d), "", "eval")) for d in parsed.args.defaults]
    optional = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))

    def lower(b: Builder, *args: Any, **kwargs: Any) -> Value:
        for name in ("inplace", "out", "generator"):
            kwargs.pop(name, None)
        if "input" in kwargs:
            kwargs[names[0]] = kwargs.pop("input")
        if len(args) == len(names) + 1 and isinstance(args[-1], bool):
            args = args[:-1]  # inplace, the last parameter of torch.nn.functional's
        given = {**optional, **dict(zip(names, args, strict=False)), **kwargs}
        missing = [name for name in names if name not in given]
        unknown = [name for name in given if name not in names]
        if missing or unknown or len(args) > len(names):
            raise TypeError(f"parameters {', '.join(names)}, given {', '.join(given)}")
        return _node(b, parsed.body, given)

    return lower


def _spellings(name: str) -> list[str]:
    places = ("torch", "Tensor", "torch.nn.functional", "torch._C._nn")
    return [f"{place}.{spelled}" for place in places for spelled in (name, f"{name}_")]


def _register() -> None:
    rows = dict(FORMULAS)
    for name, count in FUNCTIONS.items():
        letters = ("x", "other", "third")[:count]
        rows.setdefault(name, f"{', '.join(letters)}: {name}({', '.join(letters)})")
    for alias, name in ALIASES.items():
        rows.setdefault(alias, rows[name])
    for name, row in rows.items():
        if name not in _ELSEWHERE:
            lowers(*_spellings(name))(_lowering(row))
    for sign, name in OPERATORS.items():
        lowers(f"_operator.{sign}")(_lowering(rows[name]))
        method = sign.rstrip("_")
        lowers(f"Tensor.__{method}__")(_lowering(rows[name]))
    lowers("torch._C._nn.log_sigmoid", "aten.log_sigmoid")(_lowering(rows["logsigmoid"]))


_ELSEWHERE = {
    *("add", "sub", "mul", "div", "divide", "neg", "square", "rsub", "where", "round", "pow"),
    *("relu", "relu6", "leaky_relu", "elu", "silu", "hardswish", "hardsigmoid", "sigmoid"),
    *("tanh", "gelu", "gelu_tanh", "clamp", "clip", "hardtanh"),
}
"""What has a row in OPERATIONS, or a lowering of its own."""

_register()


@lowers("torch.clamp", "Tensor.clamp", "Tensor.clamp_", "torch.clip", "Tensor.clip", "torch.clamp_")
def _clamp(b: Builder, x: Any, min: Any = None, max: Any = None) -> Value:
    if min is None and max is None:
        raise Refusal("clamp without bounds")
    if min == 0 and max is None:
        return b.add("relu", [x])
    if min == 0 and max == 6:
        return b.add("relu6", [x])
    return pointwise(b, "clamped(x, min, max)", x=x, min=min, max=max)


@lowers(
    "torch.nn.functional.hardtanh",
    "torch.nn.functional.hardtanh_",
    "torch._C._nn.hardtanh",
    "torch._C._nn.hardtanh_",
)
def _hardtanh(
    b: Builder, x: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    return _clamp(b, x, min_val, max_val)


@lowers(
    *(f"torch.{name}" for name in ("div", "divide", "true_divide")),
    *(f"Tensor.{name}" for name in ("div", "div_", "divide", "divide_", "true_divide")),
    *("_operator.truediv", "_operator.itruediv", "Tensor.true_divide_"),
)
def _div(b: Builder, x: Any, y: Any, *, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return b.add("div", [x, y])
    formula = "floor_divide(x, y)" if rounding_mode == "floor" else "trunc(x / y)"
    return pointwise(b, formula, x=x, y=y)


@lowers("torch.where")
def _where(b: Builder, condition: Any, input: Any = None, other: Any = None) -> Value:
    if input is None or other is None:
        raise Refusal("where of a condition alone: how many there are depends on its values")
    return pointwise(b, "where(c, x, y)", c=condition, x=input, y=other)


@lowers("Tensor.where")
def _method_where(b: Builder, x: Any, condition: Any, other: Any) -> Value:
    return _where(b, condition, x, other)


@lowers("torch.pow", "Tensor.pow", "Tensor.pow_", "_operator.pow", "_operator.ipow")
def _pow(b: Builder, x: Any, exponent: Any) -> Value:
    if not isinstance(exponent, Value | torch.Tensor | Expression) and exponent == 2:
        return b.add("mul", [x, x])
    return pointwise(b, "pow(x, y)", x=x, y=exponent)


@lowers("torch.round", "Tensor.round", "Tensor.round_", "builtins.round")
def _round(b: Builder, x: Any, decimals: int = 0) -> Value:
    scale = 10.0**decimals
    formula = "round(x * s) / s" if decimals else "round(x)"
    return pointwise(b, formula, x=x, s=scale)


@lowers("torch.nn.functional.prelu", "torch.prelu", "Tensor.prelu")
def _prelu(b: Builder, x: Value, weight: Any) -> Value:
    if isinstance(weight, torch.Tensor):
        if weight.numel() == 1:
            return b.add("leaky_relu", [x], {"negative_slope": weight.item()})
        if weight.dim() == 1:
            channels = Expression("per channel", (weight.numel(), shape_of(x.name)))
            weight = reshape(b, b.value(weight.detach()), channels)
    return pointwise(b, "where(x > 0, x, weight * x)", x=x, weight=weight)


@lowers("torch.nn.functional.glu", "torch._C._nn.glu", "aten.glu")
def _glu(b: Builder, x: Value, dim: int = -1) -> Value:
    value, gate = chunk(b, x, 2, dim)
    return b.add("mul", [value, b.add("sigmoid", [gate])])
