"""The checks of `./run gputest`, each a function of a place that gives what was wrong."""

from collections.abc import Callable

import torch
from torch import nn

import ai3
from ai3.errors import UnsupportedAlgorithmError
from bench.gpu.algorithms import shared
from bench.gpu.place import Place


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
    x, target = torch.randn(2, 3, 14, 12), torch.randn(2, 10)

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
    ai3.swap_conv2d(net, "default", memory=0)
    place.close(net(x), expected, "the default without a workspace")
    refused = False
    try:
        ai3.swap_conv2d(net, "winograd f4", x.shape, memory=1)
    except UnsupportedAlgorithmError as error:
        refused = "1 are allowed" in str(error)
    place.expect(refused, "a workspace of more than there may be is not refused")


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
    xs = [torch.randn(2, 3, 32, 32, device=place.device) for _ in range(2)]
    with torch.no_grad():
        expected = [net(x) for x in xs]
        ai3.swap(net, {"conv2d": None, "linear": None})
        model = ai3.swap_backend(net)
        for run in (net, model):
            for _ in range(3):
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
        with torch.autocast(torch.device(place.device).type, torch.float16):
            place.close(net(xs[0]), expected[0], "autocast", 5e-2)


CHECKS: dict[str, tuple[Callable[[Place], None], float]] = {
    "streams": (streams, 25.0),
    "training": (training, 15.0),
    "models": (models, 10.0),
    "limits": (limits, 10.0),
    "networks": (networks, 55.0),
    "algorithms": (shared, 55.0),
}
"""In their order, and the seconds that each may take."""
