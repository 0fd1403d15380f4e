"""`./run gpubench`: how quick is it on this GPU? Writes gpubench.json and gpubench.png."""

import json
import os
import sys
import time
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import ai3
from ai3.platforms import platform_of
from ai3.validation import shapes

OUT = Path(os.environ.get("OUT", "out"))
SECONDS = {"layers": 60.0, "winograd": 30.0, "models": 120.0}
GOALS = {
    "default": 1.0,
    "winograd": 1.5,
    "direct": 0.7,
    "eager": 2.5,
    "compiled": 1.0,
    "overhead": 1 / 1.2,
}
"""The least that torch's time is to be over ours."""

Side = Callable[[], Any]


def timed(sides: dict[str, Side], rounds: int = 15) -> dict[str, float]:
    """Median ms of each by events, in turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round in range(-3, rounds):
        for name, side in sides.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(5):
                side()
            stop.record()
            stop.synchronize()
            if round >= 0:
                times[name].append(start.elapsed_time(stop) / 5)
    return {name: median(found) for name, found in times.items()}


def geomean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values)) if values else float("nan")


def conv_of(shape: shapes.Conv, name: str, like: nn.Conv2d | None = None) -> nn.Conv2d:
    kernel = (shape.KH, shape.KW)
    made = nn.Conv2d(shape.IC, shape.OC, kernel, **shape.attributes).cuda().requires_grad_(False)
    if like is not None:
        made.load_state_dict(like.state_dict())
    if name:
        ai3.swap_conv2d(made, name)
    return made


def layers(batch: int, names: tuple[str, ...], convs: list[shapes.Conv], until: float) -> Any:
    """Rows of times; torch's with cudnn.benchmark in the better memory format."""
    rows = []
    for shape in convs:
        if time.monotonic() > until:
            break
        x = torch.randn(batch, shape.IC, shape.IH, shape.IW, device="cuda")
        last = x.contiguous(memory_format=torch.channels_last)
        torch_conv = conv_of(shape, "")
        last_conv = conv_of(shape, "", torch_conv).to(memory_format=torch.channels_last)
        sides: dict[str, Side] = {
            "torch": lambda c=torch_conv, x=x: c(x),
            "torch channels_last": lambda c=last_conv, x=last: c(x),
        }
        expected = torch_conv(x)
        for name in names:
            try:
                own = conv_of(shape, name, torch_conv)
                apart = float((own(x) - expected).abs().max())
            except ValueError:
                continue
            if apart > 2e-2 * max(1.0, float(expected.abs().max())):
                rows.append({"shape": str(shape), "wrong": name, "apart": apart})
                continue
            sides[name] = lambda c=own, x=x: c(x)
        found = timed(sides)
        best = min(found.pop("torch"), found.pop("torch channels_last"))
        rows.append({"shape": str(shape), "torch": best, **found})
    return rows


def ratios(rows: Any, name: str) -> list[float]:
    return [row["torch"] / row[name] for row in rows if name in row]


def models(until: float) -> Any:
    from runners import networks as known

    rows = []
    for batch in (1, 32):
        for name in known.NETWORKS:
            if time.monotonic() > until:
                return rows
            loaded = known.load(name)
            net = loaded.module.cuda()
            x = torch.randn(batch, *loaded.input_shape[1:], device="cuda")
            with torch.inference_mode():
                model = ai3.swap_backend(net)
                sides = {"torch": lambda n=net, x=x: n(x), "model": lambda m=model, x=x: m(x)}
                row = {"network": name, "batch": batch, **timed(sides, 7)}
                if time.monotonic() < until - 30:
                    start = time.monotonic()
                    compiled = torch.compile(net, mode="max-autotune")
                    compiled(x)
                    sides = {"compiled": lambda c=compiled, x=x: c(x), "model": sides["model"]}
                    row["compiled"] = timed(sides, 7)["compiled"]
                    row["compile_seconds"] = time.monotonic() - start
            rows.append(row)
    return rows


def overhead() -> dict[str, float]:
    """us of the CPU's time for a call of a small layer."""
    x = torch.randn(1, 8, 8, 8, device="cuda")
    plain = nn.Conv2d(8, 8, 3, padding=1).cuda().requires_grad_(False)
    own = nn.Conv2d(8, 8, 3, padding=1).cuda().requires_grad_(False)
    ai3.swap_conv2d(own, "implicit precomp gemm")
    times: dict[str, list[float]] = {"torch": [], "ai3": []}
    for round in range(12):
        for name, side in (("torch", plain), ("ai3", own)):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(200):
                side(x)
            if round > 1:
                times[name].append((time.perf_counter() - start) / 200 * 1e6)
    return {name: median(found) for name, found in times.items()}


def chart(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panel = figure.subplots()
    names = list(GOALS)
    panel.bar(names, [found["ratios"][name] for name in names], color="C0")
    panel.scatter(names, list(GOALS.values()), marker="_", s=900, color="C3", label="at least")
    panel.set_ylabel("torch's time over ours")
    panel.set_title(found["gpu"], loc="left", fontsize=9)
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> int:
    platform = platform_of("cuda")
    assert platform is not None
    if why := platform.missing():
        print(f"gpubench needs a GPU: {why}", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    sets = shapes.load()
    convs = [*dict.fromkeys(sets["resnet50"].convs), *dict.fromkeys(sets["vgg16"].convs)]
    deep = [c for c in convs if c.KH == 3 and c.IC >= 64 and c.stride == 1 and c.groups == 1]
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    named = ("default", "direct")
    found["layers"] = layers(16, named, convs, time.monotonic() + SECONDS["layers"])
    print("layers done", flush=True)
    found["winograd"] = layers(16, ("winograd f4",), deep, time.monotonic() + SECONDS["winograd"])
    found["overhead"] = overhead()
    print("overhead", found["overhead"], flush=True)
    try:
        found["models"] = models(time.monotonic() + SECONDS["models"])
    except ImportError as error:
        found["models"] = []
        print(f"no networks: {error}", file=sys.stderr)
    rows = found["models"]
    found["ratios"] = {
        "default": geomean(ratios(found["layers"], "default")),
        "default, least": min(ratios(found["layers"], "default"), default=float("nan")),
        "direct": geomean(ratios(found["layers"], "direct")),
        "winograd": geomean(ratios(found["winograd"], "winograd f4")),
        "eager": geomean([r["torch"] / r["model"] for r in rows if r["batch"] == 1]),
        "compiled": geomean([r["compiled"] / r["model"] for r in rows if "compiled" in r]),
        "overhead": found["overhead"]["torch"] / found["overhead"]["ai3"],
    }
    for name, ratio in found["ratios"].items():
        print(f"{name}: {ratio:.2f}" + (f" (at least {GOALS[name]:.2f})" if name in GOALS else ""))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "gpubench.json").write_text(json.dumps(found, indent=1))
    try:
        chart(found, OUT / "gpubench.png")
    except ImportError as error:
        print(f"no chart: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
