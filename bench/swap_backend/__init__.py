"""Networks that `swap_backend` has turned into an `ai3.Model`."""

from collections.abc import Iterable, Iterator

from torch import nn

import ai3
from bench import networks
from bench.case import Case

NAMES = networks.NAMES


def cases(name: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    def swap(module: nn.Module, algorithm: str) -> ai3.Model:
        return ai3.swap_backend(module, {"conv2d": algorithm}, unsupported="direct")

    return networks.cases("swap_backend", name, algorithms, swap)
