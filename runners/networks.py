"""The networks, one function each; `load` gives one with weights, ready for inference."""

import copy
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int, ...]
Build = Callable[[bool], nn.Module]


@dataclass(frozen=True)
class Network:
    """`weights` tells in words where they come from."""

    name: str
    module: nn.Module
    input_shape: Shape
    weights: str


NETWORKS: dict[str, tuple[Build, Shape]] = {}


def load(name: str, *, pretrained: bool = False, seed: int = 0) -> Network:
    """The network called `name`, in eval mode.

    The weights are random, the same for the same `seed`, and scaled so that the outputs are of
    order 1. With `pretrained` they are those of torchvision, if it has some that are cached or can
    be downloaded.
    """
    build, input_shape = NETWORKS[name]
    weights = "seeded random"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained:
            try:
                with _socket_timeout(10):
                    module = build(True).eval()
                return Network(name, module, input_shape, "pretrained, from torchvision")
            except (OSError, RuntimeError, LookupError) as error:
                weights += f" (no pretrained ones: {getattr(error, 'reason', error)})"
        module = build(False).eval()
        _randomize(module, input_shape)
    return Network(name, module, input_shape, weights)


def with_same_weights(module: nn.Module) -> nn.Module:
    """A copy to change in place; its Parameters are the original's."""
    return copy.deepcopy(module, {id(p): p for p in module.parameters()})


def _network(*input_shape: int) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        NETWORKS[build.__name__] = build, input_shape
        return build

    return register


@_network(10, 3, 224, 224)
def simple_created(pretrained: bool) -> nn.Module:
    if pretrained:
        raise LookupError("nobody has trained simple_created")
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, kernel_size=3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(kernel_size=2),
            conv2=nn.Conv2d(16, 32, kernel_size=5, stride=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            flatten=nn.Flatten(start_dim=-3),  # also of a single image
            classifier=nn.Linear(32 * 27 * 27, 10),
        )
    )


@_network(1, 3, 224, 224)
def alexnet(pretrained: bool) -> nn.Module:
    return _from_torchvision("alexnet", pretrained)


@_network(1, 3, 224, 224)
def vgg16(pretrained: bool) -> nn.Module:
    return _from_torchvision("vgg16", pretrained)


@_network(1, 3, 224, 224)
def squeezenet(pretrained: bool) -> nn.Module:
    return _from_torchvision("squeezenet1_1", pretrained)


@_network(1, 3, 224, 224)
def resnet18(pretrained: bool) -> nn.Module:
    return _from_torchvision("resnet18", pretrained)


def _from_torchvision(name: str, pretrained: bool) -> nn.Module:
    from runners.vision import models

    weights = models.get_model_weights(name).DEFAULT if pretrained else None
    return models.get_model(name, weights=weights, progress=sys.stderr.isatty())


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@torch.no_grad()
def _randomize(module: nn.Module, input_shape: Shape) -> None:
    """He initialisation keeps activations of order 1 through any depth; batch norms get statistics
    that are not those of the identity; the last weights are scaled by the outputs they give."""
    last: nn.Module | None = None
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.1)
            last = layer
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.1)
            if layer.running_mean is not None and layer.running_var is not None:
                nn.init.normal_(layer.running_mean, std=0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
    if last is not None:
        scale = module(torch.randn(1, *input_shape[1:])).std()
        for parameter in last.parameters():
            parameter.div_(scale)
