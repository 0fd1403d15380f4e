"""How exact networks are in float32 and in bfloat16, ours and others', against float64:

    python -m bench.accuracy resnet18 vgg16 --images 200

The largest and the relative L2 error of the logits over random images, and on how many of them the
first class is that of float64. With --pairs ai3 chooses as on a processor that multiplies bfloat16
twice as fast as float32, by estimates alone.
"""

import argparse
from collections.abc import Callable

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import ai3
from ai3 import _core
from ai3.progress import progress
from bench.swap_backend import peers
from runners.networks import NETWORKS, load

SIDES = ("ai3 float32", "ai3 bfloat16", "OpenVINO bfloat16", "torch bfloat16")


@torch.inference_mode()
def errors(name: str, images: int, batch: int = 4) -> dict[str, tuple[float, float, float]]:
    """For each side the largest error, of the largest logit; the relative L2 error; the share of
    images whose first class is that of float64."""
    network = load(name)
    module, shape = network.module, (batch, *network.input_shape[1:])
    exact = _in_double(name, shape)
    sample = torch.randn(shape)
    ours: dict[str, Callable[[torch.Tensor], object]] = {
        "ai3 float32": ai3.swap_backend(module),
        "ai3 bfloat16": ai3.swap_backend(module, precision="bfloat16"),
    }
    runs = ours | peers.runs(module, sample, torch.get_num_threads(), "bfloat16")
    found = {side: [0.0, 0.0, 0] for side in SIDES if side in runs}
    largest = norm = 0.0
    torch.manual_seed(1)
    for _ in range(images // batch):
        x = torch.randn(shape)
        expected = exact(x.double())
        largest, norm = (
            max(largest, float(expected.abs().max())),
            norm + float(expected.norm()) ** 2,
        )
        for side, sums in found.items():
            result = runs[side](x)
            assert isinstance(result, torch.Tensor)
            difference = result.double() - expected
            sums[0] = max(sums[0], float(difference.abs().max()))
            sums[1] += float(difference.norm()) ** 2
            sums[2] += int((result.argmax(1) == expected.argmax(1)).sum())
    count = images // batch * batch
    return {
        side: (most / largest, (square / norm) ** 0.5, same / count)
        for side, (most, square, same) in found.items()
    }


def _in_double(name: str, shape: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network in float64: ai3's, many times as fast, once it gave what torch's gives."""
    module = load(name).module.double()
    model, sample = ai3.swap_backend(module), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(model(sample), module(sample), rtol=1e-11, atol=1e-11)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    if options.pairs:
        _core.force_pairs(True)
        _core.estimates_only(True)
    console = Console()
    view = Table(box=box.MARKDOWN)
    view.add_column("network")
    for side in SIDES:
        view.add_column(side, justify="right")
    with progress("accuracy ...") as show:
        for name in options.networks:
            show(f"{name} ...")
            found = errors(name, options.images)
            cells = [
                "{:.1e}, {:.1e}, {:.1%}".format(*found[side]) if side in found else ""
                for side in SIDES
            ]
            view.add_row(name, *cells)
    console.print(view, highlight=False)


if __name__ == "__main__":
    main()
