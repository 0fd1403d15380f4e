"""Networks whose convolutions `swap_conv2d` has replaced."""

from collections.abc import Iterable, Iterator

from torch import nn

import ai3
from bench import networks
from bench.case import Case

NAMES = networks.NAMES


def cases(name: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    def swap(module: nn.Module, algorithm: str) -> nn.Module:
        ai3.swap_conv2d(module, algorithm, unsupported="direct")
        return module

    return networks.cases("swap_conv2d", name, algorithms, swap)
