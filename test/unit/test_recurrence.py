"""recurrence: cells, first states, directions, projections; sizes that fill no vector."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from test.unit.checks import assert_same_bits, assert_within, make_problem

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN, "relu": nn.RNN}
GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


def by_torch(cell: str, x: Tensor, states: list[Tensor], weights: list[Any], reverse: bool) -> Any:
    """The recurrence with an input that is multiplied by the identity: the output, the last c."""
    hidden = weights[0].shape[0] // GATES[cell]
    options = {"nonlinearity": cell} if cell in ("tanh", "relu") else {}
    if weights[2] is not None:
        options["proj_size"] = weights[0].shape[1]
    net = CELLS[cell](x.shape[2], hidden, **options).double()
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.eye(x.shape[2]))
        net.weight_hh_l0.copy_(weights[0])
        net.bias_ih_l0.zero_()
        net.bias_hh_l0.copy_(torch.zeros(x.shape[2]) if weights[1] is None else weights[1])
        if weights[2] is not None:
            net.weight_hr_l0.copy_(weights[2])
        first = [state[None].double() for state in states]
        if cell == "lstm" and len(first) == 1:
            first.append(torch.zeros(1, x.shape[1], hidden).double())
        given = None if not first else tuple(first) if cell == "lstm" else first[0]
        output, last = net(x.double().flip(0) if reverse else x.double(), given)
    return output.flip(0) if reverse else output, last[1][0] if cell == "lstm" else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("cell", "steps", "batch", "hidden", "projected", "states", "bias", "reverse"),
    [
        ("lstm", 5, 1, 16, 0, 0, True, False),
        ("lstm", 4, 7, 19, 0, 2, False, True),
        ("lstm", 3, 3, 33, 5, 2, True, False),
        ("lstm", 3, 2, 17, 16, 1, False, True),
        ("lstm", 1, 1, 1, 0, 2, True, False),
        ("gru", 5, 1, 16, 0, 0, True, True),
        ("gru", 4, 6, 21, 0, 1, False, False),
        ("tanh", 5, 5, 40, 0, 1, True, False),
        ("relu", 6, 2, 9, 0, 0, False, True),
        ("gru", 3, 1, 200, 0, 1, True, False),
        ("lstm", 2, 0, 8, 0, 0, True, False),
    ],
)
def test_equals_torch(
    core: ModuleType,
    cell: str,
    steps: int,
    batch: int,
    hidden: int,
    projected: int,
    states: int,
    bias: bool,
    reverse: bool,
    dtype: torch.dtype,
) -> None:
    given, state = GATES[cell] * hidden, projected or hidden
    x = torch.randn(steps, batch, given, dtype=dtype)
    first = [torch.randn(batch, size, dtype=dtype) for size in (state, hidden)][:states]
    weights = [
        torch.randn(given, state, dtype=dtype) / state**0.5,
        torch.randn(given, dtype=dtype) if bias else None,
        torch.randn(projected, hidden, dtype=dtype) / hidden**0.5 if projected else None,
    ]
    options = {"cell": cell, "reverse": reverse}
    one, two = (
        make_problem(core, "recurrence", [x, *first], weights, n, **options) for n in (1, 2)
    )
    results = [one.reference(x, *first).torch(), one.run("direct", x, *first).torch()]
    assert_same_bits(two.run("direct", x, *first).torch(), results[1])
    if not batch:
        assert results[1].shape == (steps + 1, 0, hidden)
        return
    expected, last = by_torch(cell, x, first, weights, reverse)
    for result in results:
        assert_within(result[:steps, :, :state], expected, reduction=state, magnitude=16)
        assert not result[:steps, :, state:].any()
        if last is not None:
            assert_within(result[steps], last, reduction=state, magnitude=16)


def test_nan_stays_where_it_is(core: ModuleType) -> None:
    x = torch.randn(3, 2, 20)
    x[1, 0, 3] = float("nan")
    problem = make_problem(core, "recurrence", [x], [torch.randn(20, 20)], cell="relu")
    result = problem.run("direct", x).torch()
    assert not result[0].isnan().any() and not result[:, 1].isnan().any()
    assert result[1, 0].isnan().sum() == 1 and result[2, 0].isnan().all()


@pytest.mark.parametrize(
    ("inputs", "weights", "cell", "message"),
    [
        ([(3, 2, 8)], [(8, 2)], "lst", "cell must be"),
        ([(3, 2, 8)], [(8, 3)], "lstm", "for another state"),
        ([(3, 2, 8)], [(9, 2)], "lstm", "do not go together"),
        ([(3, 2, 9)], [(9, 2)], "lstm", "with 4 gates"),
        ([(3, 2, 8), (3, 2)], [(8, 2)], "lstm", "first h must be"),
        ([(3, 2, 8), (2, 2), (2, 3)], [(8, 2)], "lstm", "first c must be"),
        ([(3, 2, 8), (2, 8), (2, 8)], [(8, 8)], "tanh", "first states"),
        ([(3, 2, 8)], [(8, 8), (8,), (8, 8)], "relu", "only lstm has a projection"),
    ],
)
def test_what_does_not_fit_is_refused(
    core: ModuleType, inputs: Any, weights: Any, cell: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"recurrence: .*{message}"):
        make_problem(
            core,
            "recurrence",
            [torch.zeros(shape) for shape in inputs],
            [torch.zeros(shape) for shape in weights],
            cell=cell,
        )
