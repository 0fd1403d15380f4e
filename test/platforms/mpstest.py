"""Everything that runs on Apple's GPUs, on one: `./run mpstest`.

Each algorithm with each named case against the reference in double precision, networks swapped in
place and converted, training, and how long convolutions of ResNet-50 take by each algorithm. What
came of it is printed and written to a JSON file.
"""

import argparse
import copy
import json
import platform as machine
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ai3
from ai3.platforms import platform_of
from ai3.platforms.task import Planned
from ai3.timing import timed
from ai3.validation import shapes
from ai3.validation.case import Case
from ai3.validation.convolutions import convolution
from test.platforms.mps import OPERATIONS, WAYS, Tried, algorithms, cases_of, computed

NETWORKS = ("resnet18", "mobilenet", "vgg16", "densenet")
IN_PLACE = ("default", "metal", "mps", "implicit gemm")
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run mpstest", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("mpstest.json"), metavar="FILE")
    parser.add_argument("--device", default="mps", help="torch's name of the device")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases named like this")
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="NAMES")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each timing; 0: none")
    given = parser.parse_args(arguments)
    missing = _missing(given.device)
    if missing:
        print(f"mpstest: there is nothing to test: {missing}", file=sys.stderr)
        return 2
    found: dict[str, Any] = {"machine": _machine()}
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    parts: dict[str, Iterator[Row]] = {
        "kernels": _kernels(given.device, given.cases),
        "networks": _networks(given.device, list(filter(None, given.networks.split(",")))),
        "training": _training(given.device),
        "timings": _timings(given.device, given.seconds),
    }
    for part, rows in parts.items():
        found[part] = []
        for row in rows:
            found[part].append(row)
            if row.get("status") in ("wrong", "raised"):
                print(f"{part}: {', '.join(f'{k} {v}' for k, v in row.items())}")
        counts = Counter(row["status"] for row in found[part])
        print(f"{part}: {', '.join(f'{n} {status}' for status, n in counts.items()) or 'none'}")
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    bad = [row for part in parts for row in found[part] if row["status"] in ("wrong", "raised")]
    print(f"{'all is right' if not bad else f'{len(bad)} are not right'}; written to {given.json}")
    return 1 if bad else 0


def _missing(device: str) -> str:
    platform = platform_of(device)
    if platform is None:
        return f"nothing of ai3 runs on {device}"
    return platform.missing() or next(filter(None, platform.libraries().values()), "")


def _machine() -> dict[str, str]:
    return {
        "ai3": ai3.__version__,
        "torch": torch.__version__,
        "python": machine.python_version(),
        "system": machine.platform(),
        "processor": machine.processor() or machine.machine(),
    }


def _attempted(row: Row, measure: Callable[[], tuple[float, float]]) -> Row:
    """The row, with how large the error is and what is allowed."""
    try:
        error, allowed = measure()
    except Exception as raised:
        return {**row, "status": "raised", "why": f"{type(raised).__name__}: {raised}"}
    status = "right" if error <= allowed else "wrong"
    return {**row, "status": status, "error": error, "allowed": allowed}


def _kernels(device: str, like: str) -> Iterator[Row]:
    for op in OPERATIONS:
        for name, case in cases_of(op).items():
            if like not in name:
                continue
            for dtype, layout in WAYS:
                tried = Tried.of(case, dtype, layout, device)
                task, expected = tried.task(), tried.expected()
                for algorithm in algorithms(op):
                    row = {"op": op, "case": name, "algorithm": algorithm, "dtype": dtype}
                    row["layout"] = layout
                    if reason := task.refusal(algorithm):
                        yield {**row, "status": "refused", "why": reason}
                    else:
                        yield _attempted(row, partial(_kernel, tried, algorithm, expected))


def _kernel(tried: Tried, algorithm: str, expected: torch.Tensor) -> tuple[float, float]:
    planned, result = tried.run(algorithm)
    return _apart(result, expected), tried.allowed(planned.algorithm, expected)


def _networks(device: str, names: Sequence[str]) -> Iterator[Row]:
    from runners import networks

    for name in names:
        loaded = networks.load(name)
        images = torch.randn(2, *loaded.input_shape[1:])
        with torch.inference_mode():
            expected = loaded.module(images)
        for way in ("swap_conv2d", "swap_backend"):
            for algorithm in IN_PLACE:
                run = partial(_network, loaded.module, way, algorithm, images.to(device), expected)
                yield _attempted({"network": name, "way": way, "algorithm": algorithm}, run)


def _network(
    module: nn.Module, way: str, algorithm: str, images: torch.Tensor, expected: torch.Tensor
) -> tuple[float, float]:
    module = copy.deepcopy(module).to(images.device)
    if way == "swap_conv2d":
        ai3.swap_conv2d(module, algorithm, images.shape)
        runs: Any = module
    else:
        runs = ai3.swap_backend(module, {"conv2d": algorithm}, images.shape)
    with torch.inference_mode():
        return _apart(runs(images), expected), 1e-3 * _largest(expected)


def _training(device: str) -> Iterator[Row]:
    """Three steps of a small network, its gradients by the same algorithm."""
    images = torch.randn(4, 3, 18, 17)
    expected = _trained(_small(), images)
    for algorithm in IN_PLACE:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = images.to(device, memory_format=layout)
            row = {"algorithm": algorithm, "layout": str(layout)}
            yield _attempted(row, partial(_steps, algorithm, x, layout, expected))


def _steps(
    algorithm: str, images: torch.Tensor, layout: torch.memory_format, expected: torch.Tensor
) -> tuple[float, float]:
    module = _small().to(images.device, memory_format=layout)
    ai3.swap_conv2d(module, ai3.Conv2dAlgorithms(algorithm, algorithm, algorithm))
    return _apart(_trained(module, images), expected), 1e-3 * _largest(expected)


def _small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 24, 5, stride=2, groups=2),
    )


def _trained(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The parameters after some steps."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().cpu().flatten() for p in module.parameters()])


def _timings(device: str, seconds: float) -> Iterator[Row]:
    """Milliseconds of each algorithm, for ResNet-50's convolutions and a batch of 8; first what
    is estimated, by which "default" chooses."""
    for conv in shapes.load()["resnet50"].convs if seconds else ():
        case = _case(conv)
        tried = Tried.of(case, device=device)
        task = tried.task()
        estimates = dict(task.ranking())
        plans = {name: task.plan(name, tried.weights) for name in estimates}
        sides = {name: partial(_synchronized, plan, tried) for name, plan in plans.items()}
        found = timed(sides, seconds)
        yield {
            "conv": str(conv),
            "status": "timed",
            "default": task.resolve("default"),
            "estimates": estimates,
            "ms": {name: 1e3 * timing.seconds for name, timing in found.items()},
        }


def _case(conv: shapes.Conv) -> Case:
    kernel = (conv.KH, conv.KW)
    return convolution((8, conv.IC, conv.IH, conv.IW), conv.OC, kernel, conv.attributes)


def _synchronized(planned: Planned, tried: Tried) -> None:
    device = computed(planned, tried.inputs).device
    platform = platform_of(device.type)
    assert platform is not None
    platform.synchronize(device)


def _apart(actual: torch.Tensor, expected: torch.Tensor) -> float:
    if not expected.numel():
        return 0.0
    return float((actual.cpu().double() - expected.double()).abs().max())


def _largest(tensor: torch.Tensor) -> float:
    return max(1.0, float(tensor.abs().max()))


if __name__ == "__main__":
    sys.exit(main())
