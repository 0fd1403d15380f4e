"""Named sets of convolutions, kept in shapes.json: `python -m bench.layers.shapes` writes those of
the networks anew, as torchvision's networks have them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("shapes.json")

NETWORKS = (
    "vgg16",
    "resnet18",
    "resnet50",
    "mobilenet_v3_large",
    "googlenet",
    "squeezenet1_1",
    "densenet121",
    "efficientnet_v2_s",
)


class Conv(NamedTuple):
    """One convolution by the field's letters, batch aside; `times` is how often a network has it.

    Stride, padding and dilation are the same in both directions.
    """

    IC: int
    IH: int
    IW: int
    OC: int
    KH: int
    KW: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    times: int = 1

    @property
    def attributes(self) -> dict[str, int]:
        names = ("stride", "padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    @property
    def output_pixels(self) -> int:
        """OH * OW"""

        def extent(image: int, kernel: int) -> int:
            window = self.dilation * (kernel - 1) + 1
            return (image + 2 * self.padding - window) // self.stride + 1

        return extent(self.IH, self.KH) * extent(self.IW, self.KW)

    @property
    def flops(self) -> int:
        return 2 * self.output_pixels * self.OC * (self.IC // self.groups) * self.KH * self.KW

    def __str__(self) -> str:
        """IC, image, OC and kernel, and of the rest what is not usual: '64@56 256 3x3/2'."""
        image = f"{self.IH}" if self.IH == self.IW else f"{self.IH}x{self.IW}"
        depthwise = self.groups == self.IC == self.OC and self.groups > 1
        text = f"{self.IC}@{image} {'dw' if depthwise else self.OC} {self.KH}x{self.KW}"
        if self.stride > 1:
            text += f"/{self.stride}"
        if self.padding != self.dilation * (self.KH - 1) // 2:
            text += f"+{self.padding}"
        if self.dilation > 1:
            text += f"d{self.dilation}"
        return text if depthwise or self.groups == 1 else f"{text}g{self.groups}"


class ShapeSet(NamedTuple):
    batch: int
    convs: tuple[Conv, ...]


def load() -> dict[str, ShapeSet]:
    """The sets by name."""
    stored = {name: tuple(Conv(*row) for row in rows) for name, rows in _read().items()}
    sets = {name: ShapeSet(10 if name == "seeds" else 1, convs) for name, convs in stored.items()}
    sets["resnet50_batch16"] = ShapeSet(16, stored["resnet50"])
    return sets


def of_network(name: str) -> tuple[Conv, ...]:
    """The distinct convolutions of torchvision's network `name`, in the order of first use."""
    import torch
    from torch import nn

    from runners.vision import models

    found: Counter[Conv] = Counter()

    def record(conv: nn.Conv2d, inputs: tuple[torch.Tensor], _: Any) -> None:
        pairs = [conv.stride, conv.padding, conv.dilation]
        assert all(len({*pair}) == 1 for pair in pairs), f"{name}: {conv}"
        single = [int(pair[0]) for pair in pairs]
        weight = conv.weight.shape
        found[Conv(*inputs[0].shape[1:], weight[0], *weight[2:], *single, conv.groups)] += 1

    with torch.device("meta"), torch.inference_mode():
        options = {"init_weights": False} if name == "googlenet" else {}
        network = models.get_model(name, weights=None, **options).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(record)
        network(torch.empty(1, 3, 224, 224))
    return tuple(conv._replace(times=times) for conv, times in found.items())


def _read() -> dict[str, list[list[int]]]:
    return dict(json.loads(FILE.read_text()))


def _lines(sets: Mapping[str, list[list[int]]]) -> Iterator[str]:
    for name, rows in sets.items():
        inside = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        yield f'"{name}": [\n{inside}\n ]'


if __name__ == "__main__":
    written = _read() | {name: [list(conv) for conv in of_network(name)] for name in NETWORKS}
    FILE.write_text("{\n " + ",\n ".join(_lines(written)) + "\n}\n")
