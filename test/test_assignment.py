"""Tensors of which a part is overwritten, and who sees that."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ai3
from ai3.errors import UnsupportedCallableError

from .compare import Calls, converted

CASES: dict[str, Callable[[Tensor], Any]] = {}


def case(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    CASES[function.__name__] = function
    return function


@case
def a_copy_is_another_tensor(x: Tensor) -> Tensor:
    y = x.clone()
    y.add_(1)
    return x + y


@case
def a_number_to_a_slice(x: Tensor) -> Tensor:
    x[:, 1:3] = 0
    return x


@case
def rows_and_steps(x: Tensor) -> Tensor:
    x[:, 0] = x[:, 1]
    x[..., 1:-1:2] *= 2
    return x


@case
def into_a_new_tensor(x: Tensor) -> Tensor:
    y = torch.zeros(2, 3, 8, 7)
    y[:, :2] = x[:, 1:]
    return y + x


@case
def into_a_new_tensor_of_this_size(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = x.new_zeros(n, c, h + 2, w)
    y[:, :, 1 : h + 1] = x
    return y


@case
def a_view_in_place(x: Tensor) -> Tensor:
    x[:, 0].add_(1)
    return x


@case
def an_operator_on_a_view(x: Tensor) -> Tensor:
    y = x[:, 0]
    y += 1
    return x + y.unsqueeze(1)


@case
def another_shape(x: Tensor) -> Tensor:
    x.view(2, -1)[:, 3] = 5.0
    return x


@case
def turned(x: Tensor) -> Tensor:
    x.transpose(1, 2)[:, 0].fill_(3)
    return x


@case
def last_and_first(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, -1] = x.sum(2)
    y[0] = x[1]
    return y


@case
def copied(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y.copy_(x)
    y[:, -1:, None].zero_()
    return y


@case
def one_element_of_each(x: Tensor) -> Tensor:
    x[..., 0, 1] = x[..., 0, 0]
    return x


@case
def where_a_mask_is_true(x: Tensor) -> Tensor:
    x[x > 0] = -1
    return x


@case
def integers_stay_integers(x: Tensor) -> Tensor:
    y = (x * 10).long()
    y[:, 0] = 3
    return y


@case
def a_mask_of_numbers(x: Tensor) -> Tensor:
    mask = torch.zeros(1, 1, 8, 7)
    for i, rows in enumerate((slice(0, -3), slice(-3, None))):
        mask[:, :, rows, 2:] = i + 1
    return x * mask


@case
def another_shape_in_place(x: Tensor) -> tuple[Tensor, ...]:
    y = x[0]
    z = y[..., :7]
    y.transpose_(0, 1).unsqueeze_(0)
    z.swapaxes_(1, 2)
    return x, y, z


@case
def what_is_detached_keeps_its_shape(x: Tensor) -> tuple[Tensor, ...]:
    y = x.detach()
    x.transpose_(0, 1)
    return x, y


@case
def written_through_what_is_detached(x: Tensor) -> tuple[Tensor, ...]:
    x.detach().add_(1)
    x.detach()[:, 0] = 3
    return x, x.detach()


@case
def a_comparison_keeps_the_type(x: Tensor) -> tuple[Tensor, ...]:
    y = (x * 3).int()
    return x.gt_(0.5), y.ne_(1), y


@case
def bits_by_operators(x: Tensor) -> tuple[Tensor, ...]:
    mask, numbers = x > 0, (x * 9).int()
    same, other = mask, numbers
    mask &= x < 1
    mask |= x > 2
    mask ^= x > 1.5
    numbers <<= 2
    numbers >>= 1
    return same, mask, other, numbers


@case
def functions_that_work_in_place(x: Tensor) -> tuple[Tensor, ...]:
    y = x.clone()
    y.cumsum_(1).tril_()
    torch.index_put_(y, (torch.tensor([0, 1]),), x * 2)
    return x, y


COPIES: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
    "contiguous": lambda x: (x, x.transpose(1, 2).contiguous().add_(1)),
    "reshape": lambda x: (x, x.permute(2, 1, 0, 3).reshape(-1).add_(1)),
    "reshape_as": lambda x: (x, x[:, :, 1:].reshape_as(torch.zeros(42, 7)).add_(1)),
    "flatten": lambda x: (x, x[:, 1:].flatten().add_(1)),
    "before": lambda x: (x.transpose(1, 2).reshape(-1), x.add_(1)),
}


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", COPIES)
def test_what_may_be_a_copy_is_refused_where_it_matters(name: str, tracing: str) -> None:
    with pytest.raises(UnsupportedCallableError, match="a view is read later"):
        converted(Calls(COPIES[name]).eval(), torch.randn(2, 3, 8, 7), tracing)


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", ["contiguous", "reshape", "reshape_as", "flatten"])
def test_what_may_be_a_copy_is_written(name: str, tracing: str) -> None:
    net = Calls(lambda x: COPIES[name](x)[1]).eval()
    converted(net, torch.randn(2, 3, 8, 7), tracing)


@pytest.mark.parametrize("tracing", ["fx", "export"])
@pytest.mark.parametrize("name", CASES)
def test_assignment(name: str, tracing: str) -> None:
    converted(Calls(CASES[name]).eval(), torch.randn(2, 3, 8, 7), tracing)


def test_a_network_that_changes_itself_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = nn.Buffer(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            self.total[0] = x.sum()
            return x * self.total

    net = Counts().eval()
    with pytest.raises(ValueError, match="each call changes the next"):
        ai3.swap_backend(net)
    assert not net.total.any()
