"""index_select and gather: dimensions, dtypes, indices that are negative or out of range; flip and
take."""

from types import ModuleType
from typing import Any

import pytest
import torch

from test.unit.checks import make_problem

DTYPES = [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]


def both(core: ModuleType, op: str, *inputs: torch.Tensor, threads: int = 1, **given: Any) -> Any:
    problem = make_problem(core, op, list(inputs), threads=threads, **given)
    return problem.run("direct", *inputs).torch(), problem.reference(*inputs).torch()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("index_dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_equals_torch(
    core: ModuleType, dim: int, dtype: torch.dtype, index_dtype: torch.dtype, threads: int
) -> None:
    x = torch.randint(0, 2, (6, 7, 50)).to(dtype)
    index = torch.randint(-6, 6, (2, 3)).to(index_dtype)
    expected = x.movedim(dim, 0)[index.long()]
    at = dim % 3
    expected = expected.movedim((0, 1), (at, at + 1)) if at else expected
    for actual in both(core, "index_select", x, index, threads=threads, dim=dim):
        assert torch.equal(actual, expected)
    index = torch.randint(0, 6, (6, 5, 40)).to(index_dtype)
    index = index if dim != 1 else index.repeat(1, 3, 1)
    for actual in both(core, "gather", x, index, threads=threads, dim=dim):
        assert torch.equal(actual, x.gather(dim, index.long()))


def test_edges(core: ModuleType) -> None:
    x = torch.randn(4, 3)
    for actual in both(core, "index_select", x, torch.tensor(2), dim=0):
        assert torch.equal(actual, x[2])
    for actual in both(core, "index_select", x, torch.zeros(0, dtype=torch.int64), dim=0):
        assert actual.shape == (0, 3)
    for actual in both(core, "index_select", x, torch.tensor([4, -5, 0]), dim=0):
        assert actual[:2].isnan().all() and torch.equal(actual[2], x[0])
    least = torch.iinfo(torch.int64).min
    for actual in both(core, "gather", x.long(), torch.tensor([[0, 9, -9]]), dim=0):
        assert actual[0, 1:].tolist() == [least, least]
    with pytest.raises(TypeError, match="must be int64 or int32"):
        make_problem(core, "index_select", [x, x], dim=0)
    with pytest.raises(ValueError, match="no larger extents"):
        make_problem(core, "gather", [x, torch.zeros(1, 4, dtype=torch.int64)], dim=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flip_and_take(core: ModuleType, dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (3, 5, 20)).to(dtype)
    for dims in ((0,), (-1,), (0, 1, 2), ()):
        for actual in both(core, "flip", x, dims=dims):
            assert torch.equal(actual, x.flip(dims))
    for indices in ([4, 0, 0, -2], [], list(range(5))):
        for actual in both(core, "take", x, dim=1, indices=indices):
            assert torch.equal(actual, x[:, indices])
    with pytest.raises(ValueError, match="index 5 is out of range"):
        make_problem(core, "take", [x], dim=1, indices=[5])


WRITES = {"set": None, "sum": "sum", "prod": "prod", "amax": "amax", "amin": "amin"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("write", WRITES)
def test_scatter(core: ModuleType, write: str, dtype: torch.dtype, dim: int, threads: int) -> None:
    x = torch.randint(0, 5, (4, 6, 130)).to(dtype)
    source = torch.randint(0, 5, (5, 7, 131)).to(dtype)
    extents = [4, 5, 129]
    extents[dim] = source.shape[dim] - 1
    # Without duplicates what torch writes is one thing.
    most = x.shape[dim] if write == "set" else 3
    index = torch.rand(extents).argsort(dim).remainder(most)
    if write == "set":
        index = index[:, :, :most] if dim == 2 else index[:, :most] if dim == 1 else index[:most]
        index = torch.rand(index.shape).argsort(dim)
    if write == "set":
        expected = x.scatter(dim, index, source)
    elif dtype == torch.bool:
        expected = x.int().scatter_reduce(dim, index, source.int(), WRITES[write]).bool()
    else:
        expected = x.scatter_reduce(dim, index, source, WRITES[write])
    for actual in both(core, "scatter", x, index, source, threads=threads, dim=dim, reduce=write):
        assert torch.equal(actual, expected)


def test_edges_of_scatter(core: ModuleType) -> None:
    x, source = torch.zeros(3, 2), torch.tensor([[1.0, float("nan")], [2.0, 3.0]])
    last = torch.tensor([[1, 0], [1, 0]])
    for actual in both(core, "scatter", x, last, source, dim=0):
        assert actual.tolist() == [[0, 3], [2, 0], [0, 0]]
    for write in ("sum", "amax", "amin"):
        for actual in both(core, "scatter", x, last.int(), source, dim=0, reduce=write):
            assert actual[0].isnan().tolist() == [False, True]
    for bad in (3, -4):
        index = torch.tensor([[bad, 0], [-1, 0]])
        for actual in both(core, "scatter", x, index, source, dim=0, reduce="sum"):
            assert actual[:, 0].isnan().all() and not actual[1:, 1].any()
        for actual in both(core, "scatter", x.long(), index, source[:, :1].long().repeat(1, 2)):
            assert actual[:, 0].unique().tolist() == [torch.iinfo(torch.int64).min]
    none = torch.zeros(0, 2, dtype=torch.int64)
    for actual in both(core, "scatter", source, none, source, dim=0):
        assert torch.equal(actual.isnan(), source.isnan())
    with pytest.raises(TypeError, match="must be of the dtype"):
        make_problem(core, "scatter", [x, last, source.double()])
    with pytest.raises(ValueError, match="no larger extents"):
        make_problem(core, "scatter", [x, last.repeat(1, 2), source])
    with pytest.raises(ValueError, match="reduce is mean"):
        make_problem(core, "scatter", [x, last, source], reduce="mean")
