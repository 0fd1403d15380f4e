"""Where values lie: shared where nothing has to move, never overlapping while they live."""

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ai3
from ai3 import _core

ALIGNMENT = 64


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def steps_and_arena(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[list[str], int]:
    """The operations that have something to do, and the arena's bytes, checked against torch."""
    model = ai3.swap_backend(Function(function))
    torch.testing.assert_close(model(x), function(x.clone()), rtol=1e-5, atol=1e-5)
    compiled = model._compiled(model._parts[0], ai3._core.specs_of([x]))  # type: ignore[arg-type]
    ops = {node.name: node.op for node in compiled.graph.nodes}
    return [ops[name] for name in compiled.steps], compiled.executor.arena_bytes


def test_values_that_live_together_never_overlap() -> None:
    generator = random.Random(0)
    for _ in range(50):
        lives = []
        for _ in range(30):
            first = generator.randrange(40)
            last = first + generator.randrange(8)
            lives.append((generator.randrange(1, 5000), first, last))
        offsets, size = _core.plan_memory(lives)
        assert all(offset % ALIGNMENT == 0 for offset in offsets)
        placed = [(*life, offset) for life, offset in zip(lives, offsets, strict=True)]
        assert size >= max(offset + bytes for bytes, _, _, offset in placed)
        for (a, a_first, a_last, at), (b, b_first, b_last, bt) in itertools.combinations(placed, 2):
            if a_first <= b_last and b_first <= a_last:
                assert at + a <= bt or bt + b <= at
        assert size <= sum(bytes + ALIGNMENT for bytes, _, _ in lives)


def test_a_chain_works_in_the_output() -> None:
    steps, arena = steps_and_arena(lambda x: torch.relu(torch.relu(x + x)), torch.randn(4, 5))
    assert steps == ["add", "relu", "relu"]
    assert arena == 0


def test_what_is_concatenated_is_written_in_place() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cat([torch.relu(x), x + x, torch.relu(torch.add(x, x, alpha=-3))], 1).relu()

    image = torch.randn(1, 3, 5, 5)
    steps, _ = steps_and_arena(function, image)
    assert "concat" not in steps
    steps, _ = steps_and_arena(function, image.repeat(2, 1, 1, 1))
    assert "concat" in steps


def test_ever_longer_concatenations_are_parts_of_the_last() -> None:
    def dense(x: Tensor) -> Tensor:
        parts = [torch.relu(x)]
        for _ in range(4):
            joined = torch.cat(parts, 1)
            parts.append(F.avg_pool2d(joined, 3, 1, 1))
        return torch.cat(parts, 1)

    steps, arena = steps_and_arena(dense, torch.randn(1, 2, 6, 6))
    assert "concat" not in steps
    assert arena == 0


def test_dense_parts_are_not_copied() -> None:
    def halves(x: Tensor) -> Tensor:
        left, right = torch.relu(x).chunk(2, 1)
        return left + right[..., 1:3].relu().sum()

    image = torch.randn(1, 4, 3, 3)
    steps, _ = steps_and_arena(halves, image)
    assert steps.count("slice") == 1
    steps, _ = steps_and_arena(halves, image.repeat(2, 1, 1, 1))
    assert steps.count("slice") == 3


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([x, x], 1),
        lambda x: torch.cat([torch.relu(x), x], 1),
        lambda x: (lambda y: torch.cat([y, y], 1))(torch.relu(x)),
        lambda x: (lambda y: torch.cat([y, y.relu()], 1))(x + x),
        lambda x: (lambda y: torch.cat([torch.cat([y, y + y], 1), y], 1))(x + x),
        lambda x: (lambda y: torch.cat([y.relu_(), y + x], 1))(x + x),
        lambda x: (lambda y: torch.cat([y, x], 1).relu() + torch.cat([y, x], 1))(x + x),
        lambda x: (lambda y: torch.cat([y.flatten(1), (y + x).flatten(1)], 1))(x + x),
        lambda x: torch.cat([torch.relu(x)], 1),
        lambda x: torch.cat(torch.relu(x).chunk(3, 1)[::-1], 1),
        lambda x: (lambda y: y[:, 1:].relu() + y[:, :2])(x + x),
        lambda x: torch.cat([x[:, 1:], (x + x)[:, :1]], 1)[:, 1:].relu(),
        lambda x: torch.cat([torch.cat([x + x], 1), torch.relu(x)], 0),
    ],
)
def test_shared_memory_never_changes_a_result(
    function: Callable[[Tensor], Tensor], batch: int
) -> None:
    steps_and_arena(function, torch.randn(batch, 3, 4, 5))


def test_random_graphs_agree_with_torch() -> None:
    generator = random.Random(1)
    for trial in range(40):
        choices = [
            (generator.randrange(5), generator.randrange(1 + i), generator.randrange(1 + i))
            for i in range(12)
        ]
        outputs = [generator.randrange(13) for _ in range(3)]

        def network(x: Tensor, choices: list = choices, outputs: list = outputs) -> tuple:  # type: ignore[type-arg]
            values = [x]
            for kind, i, j in choices:
                a, b = values[i], values[j]
                if kind == 0:
                    values.append(torch.relu(a))
                elif kind == 1:
                    values.append(a + b)
                elif kind == 2:
                    values.append(F.adaptive_avg_pool2d(torch.cat([a, b], 1), (4, 4)))
                    values[-1] = F.conv2d(values[-1], torch.ones(3, 6, 1, 1))
                elif kind == 3:
                    values.append(a.add(b).relu_())
                else:
                    values.append(F.avg_pool2d(a, 3, 1, 1))
            return tuple(values[i] for i in outputs)

        x = torch.randn(1 + trial % 2, 3, 4, 4)
        results = ai3.swap_backend(Function(network))(x.numpy())
        for result, expected in zip(results, network(x.clone()), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)
