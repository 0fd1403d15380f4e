"""`./run gpubench`: how quick is it on this GPU? Writes gpubench.json and gpubench.png."""

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, nan
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import ai3
from ai3.platforms import platform_of
from ai3.platforms.platform import Platform
from ai3.torch.limit import TimeUp, limited
from ai3.validation import shapes
from bench.gpu.test import out

SECONDS = 215.0
BATCH = 16
WARM_UPS, ROUNDS, REPEATS = 3, 15, 5
"""Rounds before the first that counts, those that count, and calls of each side in a round."""
TUNED = 0.4
"""Seconds that a convolution's algorithms race for."""
CALLS = 200
"""In a row, where the CPU's time is what counts."""
SHARES = {"layers": 50.0, "winograd": 20.0, "overhead": 5.0, "models": 60.0, "compiled": 80.0}
"""In this order, how much of the time each may take."""

GOALS = {
    "default": 1.0,
    "default, least": 0.9,
    "winograd": 1.5,
    "direct": 0.7,
    "eager": 2.5,
    "compiled": 1.0,
    "overhead": 1 / 1.2,
}
"""The least that torch's time is to be over ours."""

Side = Callable[[], Any]


@dataclass
class Machine:
    """The device; `until` is when the part that is measured now has to end."""

    platform: Platform
    device: torch.device
    until: float = 0.0

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def timed(self, sides: dict[str, Side]) -> dict[str, float]:
        """Median ms of each by the device's clock, in turns."""
        times: dict[str, list[float]] = {name: [] for name in sides}
        for round in range(-WARM_UPS, ROUNDS):
            for name, side in sides.items():
                watch = self.platform.stopwatch(self.device)
                watch.mark()
                for _ in range(REPEATS):
                    side()
                watch.mark()
                if round >= 0:
                    times[name].append(watch.intervals()[0] / REPEATS)
        return {name: median(found) for name, found in times.items()}


def geomean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values)) if values else nan


def conv_of(
    machine: Machine, shape: shapes.Conv, name: str, like: nn.Conv2d | None = None
) -> nn.Conv2d:
    made = nn.Conv2d(shape.IC, shape.OC, (shape.KH, shape.KW), **shape.attributes)
    made.to(machine.device).requires_grad_(False)
    if like is not None:
        made.load_state_dict(like.state_dict())
    if name:
        ai3.swap_conv2d(made, name)
        ai3.freeze(made)
    return made


def layers(machine: Machine, rows: list[Any], names: tuple[str, ...], convs: Any) -> None:
    """Rows of times; torch's with cudnn.benchmark in the better memory format."""
    for shape in convs:
        if machine.left <= 0:
            return
        x = torch.randn(BATCH, shape.IC, shape.IH, shape.IW, device=machine.device)
        last = x.contiguous(memory_format=torch.channels_last)
        dense_conv = conv_of(machine, shape, "")
        last_conv = conv_of(machine, shape, "", dense_conv)
        last_conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        sides: dict[str, Side] = {
            "torch": lambda c=dense_conv, x=x: c(x),
            "torch channels_last": lambda c=last_conv, x=last: c(x),
        }
        expected = dense_conv(x)
        for name in names:
            try:
                if name == "default":  # as cudnn.benchmark does
                    ai3.tune(dense_conv, x, seconds=TUNED)
                own = conv_of(machine, shape, name, dense_conv)
                apart = float((own(x) - expected).abs().max())
            except ValueError:
                continue
            if apart > 2e-2 * max(1.0, float(expected.abs().max())):
                rows.append({"shape": str(shape), "wrong": name, "apart": apart})
                continue
            sides[name] = lambda c=own, x=x: c(x)
        found = machine.timed(sides)
        best = min(found.pop("torch"), found.pop("torch channels_last"))
        rows.append({"shape": str(shape), "torch": best, **found})


def ratios(rows: Any, name: str, torchs: str = "torch") -> list[float]:
    return [row[torchs] / row[name] for row in rows if name in row and torchs in row]


def models(machine: Machine, rows: list[Any]) -> None:
    """Each network as a Model and as torch runs it, batches of 1 before those of 32."""
    from runners import networks as known

    for batch in (1, 32):
        for name in known.NETWORKS:
            if machine.left <= 0:
                return
            net, x = _network(machine, name, batch)
            with torch.inference_mode():
                model = ai3.swap_backend(net)
                sides = {"torch": lambda n=net, x=x: n(x), "model": lambda m=model, x=x: m(x)}
                rows.append({"network": name, "batch": batch, **machine.timed(sides)})


def compiled(machine: Machine, rows: list[Any]) -> None:
    """The same beside torch.compile, which takes minutes for a network: as many as time allows."""
    from runners import networks as known

    for name in known.NETWORKS:
        for batch in (1, 32):
            start = time.monotonic()
            net, x = _network(machine, name, batch)
            with torch.inference_mode():
                model = ai3.swap_backend(net)
                quick = torch.compile(net, mode="max-autotune")
                quick(x)
                took = time.monotonic() - start
                sides = {
                    "compiled": lambda c=quick, x=x: c(x),
                    "model": lambda m=model, x=x: m(x),
                }
                times = machine.timed(sides)
            rows.append({"network": name, "batch": batch, **times, "seconds": took})
            torch.compiler.reset()


def _network(machine: Machine, name: str, batch: int) -> tuple[nn.Module, torch.Tensor]:
    from runners import networks as known

    loaded = known.load(name)
    x = torch.randn(batch, *loaded.input_shape[1:], device=machine.device)
    return loaded.module.to(machine.device), x


def overhead(machine: Machine, rows: list[Any]) -> None:
    """us of the CPU's time for a call of a small layer."""
    x = torch.randn(1, 8, 8, 8, device=machine.device)
    like = nn.Conv2d(8, 8, 3, padding=1).to(machine.device).requires_grad_(False)
    sides: dict[str, Side] = {"torch": lambda: like(x)}
    for name in ("implicit precomp gemm", "direct"):
        own = copy.deepcopy(like)
        try:
            ai3.swap_conv2d(own, name)
            own(x)
        except ValueError:
            continue
        sides[name] = lambda c=own: c(x)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round in range(-WARM_UPS, ROUNDS):
        for name, side in sides.items():
            machine.platform.synchronize(machine.device)
            start = time.perf_counter()
            for _ in range(CALLS):
                side()
            if round >= 0:
                times[name].append((time.perf_counter() - start) / CALLS * 1e6)
    rows.append({name: median(found) for name, found in times.items()})


def convolutions() -> tuple[Any, Any]:
    """Those of two networks, and of these the 3x3 ones of many channels."""
    sets = shapes.load()
    convs = [*dict.fromkeys(sets["resnet50"].convs), *dict.fromkeys(sets["vgg16"].convs)]
    deep = [c for c in convs if c.KH == 3 and c.IC >= 64 and c.stride == 1 and c.groups == 1]
    return convs, deep


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Of what was measured, by the names of the goals."""
    rows = {name: found.get(name, []) for name in SHARES}
    default = ratios(rows["layers"], "default")
    single = [row for row in rows["models"] if row["batch"] == 1]
    return {
        "default": geomean(default),
        "default, least": min(default, default=nan),
        "winograd": geomean(ratios(rows["winograd"], "winograd f4")),
        "direct": geomean(ratios(rows["layers"], "direct")),
        "eager": geomean(ratios(single, "model")),
        "compiled": geomean(ratios(rows["compiled"], "model", "compiled")),
        "overhead": geomean(ratios(rows["overhead"], "implicit precomp gemm")),
    }


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


def main(arguments: Sequence[str] = (), device: str = "cuda") -> int:
    parser = argparse.ArgumentParser(prog="./run gpubench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that it may take")
    seconds = parser.parse_args(arguments).seconds
    platform = platform_of(torch.device(device).type)
    assert platform is not None
    if why := platform.missing():
        print(f"gpubench needs a GPU: {why}", file=sys.stderr)
        return 2
    machine = Machine(platform, torch.device(device))
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    convs, deep = convolutions()
    parts: dict[str, Callable[[list[Any]], None]] = {
        "layers": lambda rows: layers(machine, rows, ("default", "direct"), convs),
        "winograd": lambda rows: layers(machine, rows, ("winograd f4",), deep),
        "overhead": lambda rows: overhead(machine, rows),
        "models": lambda rows: models(machine, rows),
        "compiled": lambda rows: compiled(machine, rows),
    }
    gpu = platform.name_of(machine.device)
    found: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__, "faults": {}}
    out().mkdir(parents=True, exist_ok=True)
    os.environ["AI3_CACHE_DIR"] = str(out() / "measured")  # nothing of an earlier run
    ai3.tuning.clear()
    for name, measure in parts.items():
        found[name] = []
        machine.until = time.monotonic() + SHARES[name] / sum(SHARES.values()) * seconds
        try:
            with limited(name, max(1.0, machine.left + 5)):
                measure(found[name])
        except TimeUp:
            pass
        except Exception as error:
            found["faults"][name] = f"{type(error).__name__}: {error}"
        # The next may be the last.
        found["ratios"] = summary(found)
        (out() / "gpubench.json").write_text(json.dumps(found, indent=1))
        fault = found["faults"].get(name, "no fault")
        print(f"{name}: {len(found[name])} measured, {fault}", flush=True)
    for name, ratio in found["ratios"].items():
        print(f"{name}: {ratio:.2f} (at least {GOALS[name]:.2f})")
    chart(found, out() / "gpubench.png")
    return int(bool(found["faults"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
