"""Elements read and written at places that integers and truth values name, constant or computed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from .compare import Calls, converted

CASES: dict[str, Callable[[Tensor], Any]] = {}
ROWS, COLUMNS = torch.tensor([1, 0, -1, 1]), torch.tensor([[0], [2], [-3]])
MASK = torch.tensor([[True, False, True], [False, True, True]])
PLANE = torch.arange(56).reshape(8, 7) % 5 == 0
both_ways = pytest.mark.parametrize("tracing", ["fx", "export"])


def integers(x: Tensor, dim: int, most: int) -> Tensor:
    """Some that depend on x, without two alike along the dimension."""
    return x.argsort(dim) % most


READ: dict[str, Callable[[Tensor], Any]] = {
    "two constants": lambda x: x[ROWS, COLUMNS],
    "two lists": lambda x: x[[0, 1], [2, 1]],
    "lists of lists": lambda x: x[:, [[0, 1], [2, 2]]],
    "a constant of two dimensions": lambda x: x[:, :, COLUMNS],
    "the last two": lambda x: x[..., [1, 2, 3], [0, 0, -1]],
    "apart": lambda x: x[ROWS, :, COLUMNS],
    "apart after one": lambda x: x[:, [0, 1], :, [1, 2]],
    "around an ellipsis": lambda x: x[ROWS, ..., COLUMNS],
    "around an ellipsis of nothing": lambda x: x[0, 1][[1, 2], ..., [0, 6]],
    "three and a new one": lambda x: x[[0, 1], None, [1, 2], 1:, [3, 4]],
    "with a number": lambda x: x[1, :, [0, 1], [1, 2]],
    "computed": lambda x: x[integers(x[0, 0, 0], 0, 2), integers(x[0, 0, 1], 0, 3)],
    "computed and constant": lambda x: x[:, integers(x[0, 0, :4], 1, 3), ROWS[:, None]],
    "one that broadcasts": lambda x: x[
        torch.arange(x.shape[0])[:, None], x[:, :2, 0, 0].argsort(1)
    ],
    "a mask of two dimensions": lambda x: x[MASK],
    "a mask of the last two": lambda x: x[:, :, PLANE],
    "a mask as a list": lambda x: x[:, [True, False, True]],
    "nothing": lambda x: x[:, torch.zeros(0, dtype=torch.long)],
    "take": lambda x: torch.take(x, COLUMNS * 9),
    "index_select of negatives": lambda x: x.index_select(1, torch.tensor([2, 0])),
    "integers": lambda x: (x * 9).long()[ROWS, COLUMNS],
}


@both_ways
@pytest.mark.parametrize("name", READ)
def test_read(name: str, tracing: str) -> None:
    converted(Calls(READ[name]).eval(), torch.randn(2, 3, 8, 7), tracing)


NOT_EXPORTED: dict[str, Callable[[Tensor], Any]] = {
    "a mask and integers": lambda x: x[:, MASK[0], ROWS[:2]],
    "one computed": lambda x: x[:, (x.sum() > 0).long()],
    "two computed": lambda x: x[(x.sum() > 0).long(), x.argmax() % 3],
    "one apart": lambda x: x[(x.sum() > 0).long(), :, [0, 1]],
    "one between": lambda x: x[[0, 1], x.argmax() % 3, [1, 0]],
    "one beside": lambda x: x[:, [0, 1], x.argmax() % 8],
    "one and two apart": lambda x: x[:, x.argmax() % 3, [0, 1], [1, 0]],
    "written": lambda x: put(x, (x.argmax() % 2, slice(None), [1, 2]), x[0, :, :2]),
}


@pytest.mark.parametrize("name", NOT_EXPORTED)
def test_what_torch_export_does_not_take(name: str) -> None:
    converted(Calls(NOT_EXPORTED[name]).eval(), torch.randn(2, 3, 8, 7), "fx")


def put(x: Tensor, index: Any, value: Any) -> Tensor:
    x[index] = value
    return x


WRITTEN: dict[str, Callable[[Tensor], Any]] = {
    "a number at two": lambda x: put(x, (ROWS, COLUMNS), 0.5),
    "elements at two": lambda x: put(x, ([0, 1], [2, 1]), x[:, 0] * 2),
    "what broadcasts": lambda x: put(x, (slice(None), [0, 2]), x[0, 0] + 1),
    "apart": lambda x: put(x, ([1, 0], slice(None), [3, 4]), x[:, :, 0]),
    "in a slice": lambda x: put(x, (slice(None), slice(1, None), [1, 3], [2, 4]), x[:, 1:, 0, :2]),
    "after a number": lambda x: put(x, (0, [0, 1], [1, 2]), -1),
    "at computed places": lambda x: put(x, (0, integers(x[0, :, 0, 0], 0, 3)), x[1]),
    "at two computed": lambda x: put(x, (x[:, 0, 0, 0].argsort(), x[:, 0, 0, 1].argsort()), 2),
    "where a constant mask is true": lambda x: put(x, MASK, x[0, 0] * 3),
    "a number in a plane": lambda x: put(x, (slice(None), slice(None), PLANE), 4),
    "where a row's mask is true": lambda x: put(x, (slice(None), x[0, :, 0, 0] > 0), 7),
    "in another shape": lambda x: put(x.view(2, -1), (slice(None), [1, 2]), 3.0),
    "through a view": lambda x: (put(x.transpose(1, 3), (slice(None), [1, 2]), 3.0), x)[1],
    "into zeros": lambda x: put(torch.zeros(2, 3, 8, 7), (slice(None), [0, 2]), x[:, :2]) + x,
    "into integers": lambda x: put((x * 10).long(), ([0, 1], [0, 1]), 3),
    "index_put": lambda x: torch.index_put(x, (ROWS[:2], COLUMNS[:2, 0]), x[:, 0]),
    "index_put that adds": lambda x: x.index_put_((ROWS,), x[0, :1] * 2, accumulate=True),
    "put": lambda x: x.put_(torch.tensor([5, 1, -1]), x[0, 0, 0, :3] + 1),
    "put that adds": lambda x: x.put_(torch.tensor([5, 5]), x[0, 0, 0, :2] + 1, accumulate=True),
    "index_add": lambda x: x.index_add(1, torch.tensor([0, 2, 0]), x * 2, alpha=0.5),
    "index_add of computed": lambda x: x.index_add_(0, x[0, 0, 0, :2].argsort(), x + 1),
    "index_copy": lambda x: x.index_copy(-1, torch.tensor([6, 0]), x[..., 2:4]),
    "index_fill": lambda x: x.index_fill_(2, torch.tensor([7, 0]), 1.5),
    "index_fill of computed": lambda x: x.index_fill(1, x[0, :2, 0, 0].argsort(), 9.0),
    "scatter": lambda x: torch.scatter(x, 1, integers(x, 1, 3), x * 2),
    "scatter of a part": lambda x: x.scatter(3, integers(x[:, :2, :5], 3, 7), x + 1),
    "scatter a number": lambda x: torch.zeros_like(x).scatter_(1, x.argmax(1, keepdim=True), 1.0),
    "scatter that adds": lambda x: x.scatter(2, integers(x, 2, 4), x, reduce="add"),
    "scatter_add": lambda x: x.scatter_add(1, integers(x, 1, 2), x * 3),
    "scatter_add at constants": lambda x: x.scatter_add_(
        0, torch.zeros(2, 3, 8, 7, dtype=torch.long), x * 2
    ),
    "scatter_add into zeros": lambda x: torch.zeros(2, 5, 8, 7).scatter_add(1, x.argsort(1), x),
    "select_scatter": lambda x: torch.select_scatter(x, x[:, 0], 1, -1),
    "slice_scatter": lambda x: x.slice_scatter(x[..., :3] * 2, 3, 1, 7, 2),
    "a histogram": lambda x: torch.zeros(4, dtype=torch.long).index_add(
        0, (x.flatten() > 0).long(), torch.ones(336, dtype=torch.long)
    ),
}
REDUCED = [
    (name, itself) for name in ("sum", "prod", "mean", "amax", "amin") for itself in (True, False)
]


@both_ways
@pytest.mark.parametrize("name", WRITTEN)
def test_written(name: str, tracing: str) -> None:
    converted(Calls(WRITTEN[name]).eval(), torch.randn(2, 3, 8, 7), tracing)


@both_ways
@pytest.mark.parametrize(("reduce", "itself"), REDUCED)
def test_reduced(reduce: str, itself: bool, tracing: str) -> None:
    def reduced(x: Tensor) -> Any:
        index = integers(x, 2, 3)
        first = x.scatter_reduce(2, index, x * 2, reduce, include_self=itself)
        whole = (x * 5).long()
        second = whole.scatter_reduce(2, index, whole + 1, reduce, include_self=itself)
        if reduce == "sum":
            return first, second
        rows = torch.tensor([0, 2, 0])
        return first, second, x.index_reduce(1, rows, x + 1, reduce, include_self=itself)

    converted(Calls(reduced).eval(), torch.randn(2, 3, 8, 7), tracing)


def test_any_batch() -> None:
    model = converted(
        Calls(lambda x: (x[:, [0, 1], [1, 2]], x.index_add(1, ROWS[:2], x[:, :2]))).eval(),
        torch.randn(3, 3, 8, 7),
        "export",
    )
    assert [y.shape[0] for y in model(torch.randn(1, 3, 8, 7))] == [1, 1]


def test_out_of_range_is_nan() -> None:
    places = torch.tensor([[0.0, 7.0], [0.0, 8.0]])
    table = torch.randn(8, 8)
    net = Calls(lambda x: table[x[0].long(), x[1].long()])
    model = converted(net.eval(), torch.zeros(2, 2), "fx")
    assert model(places).isnan().tolist() == [False, True]
