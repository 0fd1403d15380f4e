"""The graph's operations by torch's functions: all there are, each against the core's reference."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch

from ai3 import _core
from ai3.ops import OPERATIONS
from ai3.torch.functions import FUNCTIONS
from ai3.torch.programs import FUNCTIONS as POINTWISE
from ai3.torch.programs import run_program
from ai3.validation.case import Case, Randomly
from ai3.validation.cases import SUITES
from ai3.validation.trial import Trial, arrays_of

MORE = {
    "pad": [
        Case("pad", ((2, 3, 5, 6),), (), {"pad": (2, -1, 1, 3), "mode": mode})
        for mode in ("reflect", "replicate", "circular")
    ],
    "slice": [Case("slice", ((7, 5),), (), {"dim": -1, "start": -3, "end": -1})],
    "scatter": [
        Case("scatter", ((5, 6), (3, 4), (4, 4)), (), {"dim": 0, "reduce": reduce})
        for reduce in ("prod", "amin")
    ],
    "conv2d": [
        Case(
            "conv2d",
            ((2, 3, 7, 6), (2, 4, 7, 6)),
            ((4, 3, 3, 3), (4,)),
            {"padding": 1, "activation": "gelu_tanh"},
        ),
        Case(
            "conv2d",
            ((2, 3, 7, 6),),
            ((4, 3, 3, 3), (4,)),
            {"padding": (1, 0, 2, 1), "activation": "leaky_relu", "activation_parameter": 0.2},
        ),
    ],
    "linear": [Case("linear", ((2, 3), (2, 4)), ((4, 3), None), {"activation": "silu"})],
    "sum": [Case("sum", ((2, 3),), (), {"dim": None, "keepdim": True})],
    "argmax": [Case("argmax", ((2, 3),), (), {"dim": None, "keepdim": True})],
}
"""What the package's cases do not reach."""


@contextmanager
def nothing_from_the_host() -> Iterator[None]:
    """Within which nothing may be copied to where tensors are, as within a CUDA graph."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a copy from the host")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, name, forbidden)
        yield


def cases(op: str) -> list[Case]:
    suite = SUITES[op]
    drawn = (suite.draw(Randomly(f"{op} {i}"), op) for i in range(8))
    named = list(suite.named.values())
    return [*named[:: max(1, len(named) // 8)], *drawn, *MORE.get(op, [])]


def test_every_operation_has_a_function() -> None:
    assert FUNCTIONS.keys() == OPERATIONS.keys()
    assert POINTWISE.keys() == _core.pointwise_functions().keys()


@pytest.mark.parametrize("op", OPERATIONS)
def test_equals_the_reference(op: str) -> None:
    tried = 0
    for case in cases(op):
        if op == "reorder":  # a layout is nothing that a tensor shows
            case = replace(case, attributes={**case.attributes, "layout": "dense"})
        inputs, weights = arrays_of(Trial(case, "float64"))
        specs = [_core.Spec(x.dtype.name, x.shape) for x in inputs]
        try:
            problem = _core.problem(op, specs, _core.Weights.of(weights), dict(case.attributes))
        except ValueError:
            continue
        expected = problem.reference(*inputs).torch()
        given = [torch.from_numpy(np.array(x, order="C")) for x in inputs]
        held = [w if w is None else torch.from_numpy(w) for w in weights]
        actual = FUNCTIONS[op](given, held, case.attributes)
        with nothing_from_the_host():
            FUNCTIONS[op](given, held, case.attributes)
        torch.testing.assert_close(actual.contiguous(), expected, rtol=1e-9, atol=1e-9)
        tried += prod(expected.shape) > 0
    assert tried >= 3


VALUES = [
    torch.tensor([-2.5, -1.0, 0.0, 0.5, 3.0, 70.0]),
    torch.tensor([1.5, -0.5, 2.0, -3.0, 0.25, 1.0]),
    torch.tensor([3, -2, 0, 5, 1, 70]),
    torch.tensor([2, 3, 4, 0, -1, 65], dtype=torch.int32),
    torch.tensor([True, False, True, True, False, False]),
]


OF_NUMBERS = (
    *("abs", "ceil", "floor", "neg", "round", "square", "trunc", "relu", "sub", "floor_divide"),
    *("remainder", "fmod", "pow", "bitwise_left_shift", "bitwise_right_shift"),
)
"""What torch refuses for bool, or gives another type of."""


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions_promote_as_the_core_does(name: str) -> None:
    operands = _core.pointwise_functions()[name]
    tried = 0
    for i, x in enumerate(VALUES):
        seconds = ["x1", "True"] if name.startswith("logical") else ["x1", "2", "0.5", "True"]
        for second in seconds if operands > 1 else [""]:
            y = VALUES[(i + 1) % len(VALUES)]
            names = ["x0", second, "x1"][:operands]
            program = f"{name}({', '.join(names)})"
            specs = [_core.Spec(str(t.dtype).removeprefix("torch."), t.shape) for t in (x, y)]
            try:
                problem = _core.problem("pointwise", specs, None, {"program": program})
            except ValueError:
                continue
            if torch.bool in (x.dtype, y.dtype) and name in OF_NUMBERS:
                continue
            expected = problem.run("direct", x.numpy(), y.numpy()).torch()
            with nothing_from_the_host():
                actual = run_program(program, [x, y])
            assert actual.dtype == expected.dtype, program
            torch.testing.assert_close(
                actual, expected, rtol=1e-4, atol=1e-5, equal_nan=True, msg=program
            )
            tried += 1
    assert tried > 1


def test_results_in_a_half_stay_in_it() -> None:
    x: Any = torch.ones(3, dtype=torch.float16)
    assert run_program("float32(x0); mul(t0, 2.0)", [x]).dtype is torch.float16
