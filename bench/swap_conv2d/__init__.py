"""Networks whose convolutions `swap_conv2d` has replaced, and what a training step of one takes.

torch's eager mode is the baseline; torch.compile's results stand beside it.
"""

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

import ai3
from bench import networks
from bench.case import Case, algorithms_of
from runners import networks as known

TRAINING = "training_step"
NAMES = (*networks.NAMES, TRAINING)


def cases(name: str, algorithms: Iterable[str] | None = None) -> Iterator[Case]:
    def swap(module: nn.Module, algorithm: str) -> nn.Module:
        ai3.swap_conv2d(module, algorithm, unsupported="direct")
        return module

    if name == TRAINING:
        yield _training(algorithms)
        return
    torch.manual_seed(0)  # of the sample, which all sides share
    for case in networks.cases("swap_conv2d", name, algorithms, swap):
        yield Case(
            case.group,
            case.name,
            {**case.sides, **dict(_compiled(name))},
            case.baseline,
            case.flops,
        )


def _compiled(name: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """torch.compile's, of torch's own convolutions and of swapped ones."""
    network = known.load(name)
    sample = torch.randn(network.input_shape, generator=torch.Generator().manual_seed(0))
    swapped = known.with_same_weights(network.module)
    ai3.swap_conv2d(swapped)
    for side, module in (("torch compiled", network.module), ("default compiled", swapped)):
        run = torch.compile(module)

        @torch.inference_mode()
        def call(run: Callable[[Tensor], object] = run) -> object:
            return run(sample)

        yield side, call


def _training(algorithms: Iterable[str] | None) -> Case:
    """Forward, backward and SGD. The learning rate is zero, so that all steps give one result;
    weights count as changed all the same."""
    images, classes = torch.randn(8, 3, 224, 224), torch.randint(0, 1000, (8,))

    def side(module: nn.Module) -> Callable[[], Tensor]:
        optimizer = torch.optim.SGD(module.train().parameters(), lr=0.0)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(images), classes)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    network = known.load("resnet18").module
    sides = {"torch": side(copy.deepcopy(network))}
    for algorithm in algorithms_of("conv2d", algorithms or ("default", "direct")):
        module = copy.deepcopy(network)
        ai3.swap_conv2d(module, algorithm, unsupported="direct")
        sides[algorithm] = side(module)
    return Case("swap_conv2d", "resnet18, training step, 8x3x224x224", sides, ("torch",))
