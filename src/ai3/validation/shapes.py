"""Named sets of convolutions, those of networks among them, kept in shapes.json."""

import json
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("shapes.json")


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
    stored = {name: tuple(Conv(*row) for row in rows) for name, rows in read().items()}
    sets = {name: ShapeSet(10 if name == "seeds" else 1, convs) for name, convs in stored.items()}
    sets["resnet50_batch16"] = ShapeSet(16, stored["resnet50"])
    return sets


def read() -> dict[str, list[list[int]]]:
    """What the file holds: a row of numbers, those of a `Conv`, for each convolution of a set."""
    return dict(json.loads(FILE.read_text()))
