"""The checks of `./run gputest`, each a function of a place that gives what was wrong."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import ai3
from ai3.platforms.platform import Platform
from ai3.validation.case import Randomly
from ai3.validation.cases import SUITES
from bench.gpu.reference import wrong

OPS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight", "conv_transpose2d", "linear")
DTYPES = ("float32", "float64", "float16", "bfloat16")
LAYOUTS = ("dense", "channels_last")


@dataclass
class Place:
    """The device, and until when a check may go on."""

    platform: Platform
    device: str
    until: float
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_time_up(self) -> bool:
        return time.monotonic() > self.until

    def expect(self, holds: bool, what: str) -> None:
        self.tried += 1
        if not holds:
            self.faults.append(what)

    def close(self, actual: Any, expected: Any, what: str, tolerance: float = 2e-3) -> None:
        apart = (actual.detach().double().cpu() - expected.detach().double().cpu()).abs().max()
        largest = max(1.0, float(expected.abs().max()))
        self.expect(float(apart) <= tolerance * largest, f"{what}: {float(apart):.3g} apart")


def cases(place: Place) -> Iterator[tuple[Any, ...]]:
    """Every algorithm with every case, dtypes and layouts in turns, the named cases first."""
    number = 0
    for drawn in (False, True):
        for op in OPS:
            suite = SUITES[op]
            found = suite.named
            if drawn:
                found = {f"drawn {i}": suite.draw(Randomly(f"{op} {i}"), op) for i in range(20)}
            for case_name, case in found.items():
                for name in place.platform.algorithms(op):
                    number += 1
                    yield op, case_name, case, name, DTYPES[number % 4], LAYOUTS[number // 4 % 2]


def algorithms(place: Place) -> None:
    """All algorithms x named cases against the reference."""
    for op, case_name, case, name, dtype, layout in cases(place):
        if place.is_time_up:
            return
        if any(0 in shape for shape in case.inputs):
            continue
        what = f"{op} {name!r} {case_name} {dtype} {layout}"
        try:
            found = wrong(place.platform, place.device, case, name, dtype, layout)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found is not None:
            place.expect(not found, f"{what}: {found}")


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def training(place: Place) -> None:
    """Steps of a swapped network against torch's in double precision."""
    torch.manual_seed(1)
    x, target = torch.randn(4, 3, 24, 20), torch.randn(4, 10)

    def trained(net: nn.Module, device: str, dtype: torch.dtype) -> torch.Tensor:
        net.to(device, dtype).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        loss = torch.zeros(())
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x.to(device, dtype)), target.to(device, dtype))
            loss.backward()
            optimizer.step()
        return loss

    expected = trained(_network(), "cpu", torch.float64)
    known = place.platform.algorithms("conv2d")
    for name in (
        "default",
        *(n for n in ("direct", "implicit precomp gemm", "torch") if n in known),
    ):
        net = _network().to(place.device)
        ai3.swap_conv2d(net, name)
        place.close(trained(net, place.device, torch.float32), expected, f"training by {name!r}")


def models(place: Place) -> None:
    """Models for some sizes, twice each, and the report."""
    net = _network().eval()
    model = ai3.swap_backend(net.to(place.device))
    for shape in ((1, 3, 24, 20), (5, 3, 17, 19), (1, 3, 24, 20)):
        for seed in (0, 1):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            with torch.no_grad():
                expected = net.cpu()(x)
            place.close(model(x.to(place.device)), expected, f"a model of {shape}")
    report = model.report(torch.randn(1, 3, 24, 20, device=place.device), repeat=2)
    place.expect(any(node.ms > 0 for node in report.nodes), "the report has no times")


def limits(place: Place) -> None:
    """A workspace above the limit is refused, and one below it is enough."""
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).to(place.device)
    x = torch.randn(2, 64, 56, 56, device=place.device)
    expected = net(x)
    place.platform.workspace_limit = 0
    try:
        ai3.swap_conv2d(net, "default")
        place.close(net(x), expected, "the default without a workspace")
    finally:
        place.platform.workspace_limit = None


def networks(place: Place) -> None:
    """All of them, both ways, against torch on the CPU."""
    from runners import networks as known

    for name in known.NETWORKS:
        if place.is_time_up:
            return
        loaded = known.load(name)
        x = torch.randn(1, *known.SMALL.get(name, loaded.input_shape)[1:])
        with torch.no_grad():
            expected = loaded.module(x)
            net = loaded.module.to(place.device)
            try:
                made = ai3.swap_backend(net)(x.to(place.device))
                place.close(made, expected, f"{name} as a model", 5e-3)
                ai3.swap_conv2d(net)
                place.close(net(x.to(place.device)), expected, f"{name} swapped", 5e-3)
            except Exception as error:
                place.expect(False, f"{name}: {type(error).__name__}: {error}")


def streams(place: Place) -> None:
    """Two streams at a time, and a capture of a swapped network."""
    net = _network().eval().to(place.device)
    xs = [torch.randn(2, 3, 64, 64, device=place.device) for _ in range(2)]
    with torch.no_grad():
        expected = [net(x) for x in xs]
        ai3.swap_conv2d(net)
        model = ai3.swap_backend(net)
        for run in (net, model):
            for _ in range(5):
                results = []
                for x in xs:
                    stream = torch.cuda.Stream()
                    stream.wait_stream(torch.cuda.current_stream())
                    with torch.cuda.stream(stream):
                        results.append(run(x))
                torch.cuda.synchronize()
                for found, wanted in zip(results, expected, strict=True):
                    place.close(found, wanted, "one of two streams")
        graph = torch.cuda.CUDAGraph()
        fixed = xs[0].clone()
        net(fixed)
        with torch.cuda.graph(graph):
            captured = net(fixed)
        fixed.copy_(xs[1])
        graph.replay()
        place.close(captured, expected[1], "a captured network")
        compiled = torch.compile(net, fullgraph=True)
        place.close(compiled(xs[0]), expected[0], "torch.compile")
        with torch.autocast("cuda", torch.float16):
            place.close(net(xs[0]), expected[0], "autocast", 5e-2)


ANYWHERE: dict[str, Callable[[Place], None]] = {
    "training": training,
    "models": models,
    "limits": limits,
    "algorithms": algorithms,
}
"""What any platform's devices can do."""

CHECKS: dict[str, tuple[Callable[[Place], None], float]] = {
    "streams": (streams, 30.0),
    "training": (training, 20.0),
    "models": (models, 20.0),
    "limits": (limits, 10.0),
    "networks": (networks, 70.0),
    "algorithms": (algorithms, 60.0),
}
"""In their order, and the seconds that each may take."""
