"""Whole networks, batch as the network's own sample input has it."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from bench.case import Case, algorithms_of
from runners import networks

NAMES = tuple(networks.NETWORKS)

Run = Callable[[torch.Tensor], object]


def cases(
    group: str,
    name: str,
    algorithms: Iterable[str] | None,
    swap: Callable[[nn.Module, str], Run],
) -> Iterator[Case]:
    """One case: torch's own module, and what `swap` makes of it with each algorithm."""
    network = networks.load(name)
    sample = torch.randn(network.input_shape)

    def side(run: Run) -> Callable[[], object]:
        @torch.inference_mode()
        def call() -> object:
            return run(sample)

        return call

    sides = {"torch": side(network.module)}
    for algorithm in algorithms_of("conv2d", algorithms):
        sides[algorithm] = side(swap(networks.with_same_weights(network.module), algorithm))
    shape = "x".join(map(str, network.input_shape))
    yield Case(group, f"{name}, {shape}", sides, ("torch",))
