"""The sets of convolutions that are networks': `python -m bench.layers.shapes` writes them anew, as
torchvision's networks have them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ai3.validation.shapes import FILE, Conv, read

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


def _lines(sets: Mapping[str, list[list[int]]]) -> Iterator[str]:
    for name, rows in sets.items():
        inside = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        yield f'"{name}": [\n{inside}\n ]'


if __name__ == "__main__":
    written = read() | {name: [list(conv) for conv in of_network(name)] for name in NETWORKS}
    FILE.write_text("{\n " + ",\n ".join(_lines(written)) + "\n}\n")
