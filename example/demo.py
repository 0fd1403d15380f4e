"""Swap the algorithms of VGG16, both ways, and see what each layer costs: `./run demo`."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

import ai3
from ai3.model import NodeProfile
from ai3.progress import progress
from bench import measure
from bench.report import duration
from runners import networks
from runners.vision import models

PICTURE = Path(__file__).parent / "orange.jpg"
CHART = Path("out/demo.png")
SHAPE = (1, 3, 224, 224)


def auto_selector(orig: nn.Conv2d, input_shape: Sequence[int]) -> str:
    """`direct` for few channels on large images, `smm` for the rest."""
    out_channels = orig.weight.shape[0]
    if out_channels < 50 and input_shape[1] < 50 and input_shape[2] > 150 and input_shape[3] > 150:
        return "direct"
    return "smm"


def main() -> None:
    console = Console(highlight=False)
    network = networks.load("vgg16", pretrained=True)
    preset = models.VGG16_Weights.DEFAULT
    with Image.open(PICTURE) as picture:
        sample = preset.transforms()(picture).unsqueeze(0)
    console.print(f"VGG16, weights: {network.weights}", soft_wrap=True)

    with progress("swapping ..."):
        model = ai3.swap_backend(network.module, {"conv2d": auto_selector}, SHAPE)
        default_model = ai3.swap_backend(network.module)
        swapped = networks.with_same_weights(network.module)
        ai3.swap_conv2d(swapped, auto_selector, SHAPE)
        default_swapped = networks.with_same_weights(network.module)
        ai3.swap_conv2d(default_swapped)
    sides = {
        "torch": network.module,
        "swap_conv2d, auto_selector": swapped,
        "swap_backend, auto_selector": model,
        "swap_conv2d, default": default_swapped,
        "swap_backend, default": default_model,
    }

    with torch.inference_mode():
        for name, run in sides.items():
            console.print(f"  {name:28} sees {_best(run(sample), preset.meta['categories'])}")
        if not network.weights.startswith("pretrained"):
            console.print("  (weights that nobody trained: only their agreement means something)")

        with progress("timing each layer ..."):
            profile = model.profile(sample)
        console.print(_layers(profile))

        with progress("timing whole networks, in turns ..."):
            measure.keep_freed_memory()
            calls = {name: lambda run=run: run(sample) for name, run in sides.items()}
            difference = measure.check(calls, epsilons=1000)
            timings = measure.compare(calls, seconds=2, epsilons=1000)
    console.print(_end_to_end(timings))
    console.print(f"\nLargest difference from torch's outputs: {difference:.2g}")

    CHART.parent.mkdir(exist_ok=True)
    _draw(profile, timings, CHART)
    console.print(f"The chart is in {CHART}")


def _best(logits: torch.Tensor, categories: Sequence[str]) -> str:
    probability, index = logits.softmax(1)[0].max(0)
    return f"{categories[int(index)]} ({probability:.2%})"


def _layers(profile: Sequence[NodeProfile]) -> Table:
    total = sum(step.ms for step in profile)
    table = _table("swap_backend with auto_selector, layer by layer")
    table.add_column("", justify="right")
    table.add_column("module")
    table.add_column("output shape")
    table.add_column("operation")
    table.add_column("algorithm")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    for number, step in enumerate(profile, start=1):
        table.add_row(
            str(number),
            step.name,
            "x".join(map(str, step.shape)),
            step.op,
            step.algorithm,
            f"{step.ms:.2f}",
            f"{step.ms / total:.1%}",
        )
    table.add_section()
    table.add_row("", "all", "", "", "", f"{total:.2f}", "")
    return table


def _end_to_end(timings: dict[str, measure.Timing]) -> Table:
    table = _table("End to end")
    table.add_column("")
    table.add_column("time", justify="right")
    table.add_column("speed", justify="right")
    for name, timing in timings.items():
        table.add_row(name, duration(timing.seconds), f"{timing.ratio:.2f}x")
    return table


def _table(title: str) -> Table:
    return Table(
        title=f"\n{title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _draw(profile: Sequence[NodeProfile], timings: dict[str, measure.Timing], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    kinds = list(dict.fromkeys(f"{step.op} {step.algorithm}" for step in profile))
    colours = {kind: f"C{index}" for index, kind in enumerate(kinds)}
    figure, (whole, layers) = plt.subplots(
        2, figsize=(8, 9), height_ratios=[1, 4], layout="constrained"
    )
    bars = whole.barh(list(timings), [timing.seconds * 1e3 for timing in timings.values()])
    whole.bar_label(bars, [f"{timing.ratio:.2f}x" for timing in timings.values()], padding=3)
    whole.set_title(f"VGG16 on {torch.get_num_threads()} threads, one image", loc="left")

    rows = range(len(profile))
    layers.barh(
        rows,
        [step.ms for step in profile],
        color=[colours[f"{step.op} {step.algorithm}"] for step in profile],
    )
    layers.set_yticks(rows, [step.name for step in profile], fontsize=8)
    layers.set_title("swap_backend with auto_selector, layer by layer", loc="left")
    patches = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    for panel in (whole, layers):
        panel.set_xlabel("ms")
        panel.invert_yaxis()
        panel.margins(x=0.1)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
