"""The networks, one function each; `load` gives one with weights, ready for inference."""

import copy
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
SMALL: dict[str, Shape] = {}
"""The shape of an image, smaller than the usual one, that a network is tested with."""


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
        randomize(module, SMALL.get(name, input_shape))
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


TORCHVISION = {
    "alexnet": ("alexnet", 224, 224),
    "convnext": ("convnext_base", 224, 64),
    "densenet": ("densenet121", 224, 64),
    "efficientnet": ("efficientnet_v2_s", 224, 64),
    "googlenet": ("googlenet", 224, 64),
    "inception": ("inception_v3", 299, 96),
    "maxvit": ("maxvit_t", 224, 224),
    "mnasnet": ("mnasnet1_0", 224, 64),
    "mobilenet": ("mobilenet_v3_large", 224, 64),
    "regnet": ("regnet_y_16gf", 224, 64),
    "resnet": ("resnet152", 224, 64),
    "resnet18": ("resnet18", 224, 224),
    "resnet50": ("resnet50", 224, 64),
    "shufflenetv2": ("shufflenet_v2_x2_0", 224, 64),
    "squeezenet": ("squeezenet1_1", 224, 224),
    "swin_transformer": ("swin_b", 224, 64),
    "vgg16": ("vgg16", 224, 224),
    "vision_transformer": ("vit_b_16", 224, 224),
}
"""Name -> torchvision's name, the size of its images, and one at which it is tested."""


def _register(name: str, original: str, size: int, small: int) -> None:
    def build(pretrained: bool) -> nn.Module:
        return from_torchvision(original, pretrained)

    NETWORKS[name] = build, (1, 3, size, size)
    SMALL[name] = (1, 3, small, small)


for _name, _rest in TORCHVISION.items():
    _register(_name, *_rest)


def from_torchvision(name: str, pretrained: bool = False) -> nn.Module:
    """A network of torchvision, without the initialisation that `randomize` replaces."""
    from runners.vision import models

    weights = models.get_model_weights(name).DEFAULT if pretrained else None
    options: dict[str, object] = {"progress": sys.stderr.isatty()}
    if not pretrained and name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False}
    if name in models.list_models(module=models.segmentation):
        options |= {"weights_backbone": None}
    with nullcontext() if pretrained else _without_initialisation():
        return models.get_model(name, weights=weights, **options)


@contextmanager
def _without_initialisation() -> Iterator[None]:
    """torch.nn.init does nothing: for hundreds of millions of weights it takes long."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    before = {name: getattr(nn.init, name) for name in names}
    for name in names:
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(nn.init, name, function)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@torch.no_grad()
def randomize(module: nn.Module, input_shape: Shape) -> None:
    """He initialisation keeps activations of order 1 through any depth; norms get weights and
    statistics that are not those of the identity, so do tokens, tables and scales; the last weights
    are scaled by the outputs they give."""
    last: nn.Module | None = None
    for layer in module.modules():
        norm = isinstance(layer, nn.BatchNorm2d | nn.LayerNorm)
        for name, parameter in layer.named_parameters(recurse=False):
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif norm:
                parameter.uniform_(0.5, 1)
            elif parameter.dim() > 1 and name.endswith("weight"):
                parameter.normal_(std=(2 * parameter.shape[0] / parameter.numel()) ** 0.5)
            elif name == "logit_scale":
                parameter.fill_(2)
            else:
                parameter.uniform_(0.1, 0.5)
        if isinstance(layer, nn.BatchNorm2d):
            if layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            last = layer
    output = module(torch.randn(1, *input_shape[1:]))
    if last is not None and isinstance(output, torch.Tensor):
        scale = output.std()
        for parameter in last.parameters():
            parameter.div_(scale)
