import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings

import ai3
from ai3.algorithms import REGISTERED
from ai3.torch import export
from runners import networks

# A slow machine traces the same.
export.FREE.update({sizes: s and 10 * s for sizes, s in export.FREE.items()})

# What a developer has measured on this machine is to change no test.
_cache = tempfile.TemporaryDirectory(prefix="ai3-tests-")
os.environ["AI3_CACHE_DIR"] = _cache.name

# How long an example takes is the machine's affair.
settings.register_profile("ai3", deadline=None)
settings.load_profile("ai3")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Takes back the algorithms that a test adds."""
    yield
    for op, name in list(REGISTERED):
        if (op, name) in REGISTERED:
            ai3.remove_algorithm(op, name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--network",
        choices=sorted(networks.NETWORKS),
        help="run only the tests of this network",
    )
    parser.addoption(
        "--all", action="store_true", help="also what `./run test` leaves out as it takes long"
    )
    parser.addoption(
        "--rest", action="store_true", help="only what `./run test` leaves out as it takes long"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: runs with --all only")
    config.addinivalue_line(
        "markers",
        "thinned(n): without --all only one in n cases runs, such that with any values of two "
        "parameters there is a case where the others have n values",
    )


def _thorough(items: list[pytest.Item]) -> set[pytest.Item]:
    """What runs with --all only."""
    found = {item for item in items if item.get_closest_marker("thorough")}
    thinned: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("thinned"):
            thinned.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in thinned.values():
        marker = cases[0].get_closest_marker("thinned")
        assert marker is not None
        n = marker.args[0]
        positions = [case.callspec.indices for case in cases]
        counts = {name: 1 + max(p[name] for p in positions) for name in positions[0]}
        # The parameters of fewest values, together, number n cases apart; the others shift them.
        weights, product = {}, 1
        for name in sorted(counts, key=lambda name: counts[name]):
            weights[name] = product if product < n else 1
            product *= counts[name]
        for case, position in zip(cases, positions, strict=True):
            if sum(weights[name] * i for name, i in position.items()) % n:
                found.add(case)
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rest = config.getoption("--rest")
    if rest or not config.getoption("--all"):
        thorough = _thorough(items)
        config.hook.pytest_deselected(items=[i for i in items if (i in thorough) != rest])
        items[:] = [item for item in items if (item in thorough) == rest]
    chosen = config.getoption("--network")
    if chosen is None:
        return

    def concerns(item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        return callspec is not None and callspec.params.get("network") == chosen

    config.hook.pytest_deselected(items=[item for item in items if not concerns(item)])
    items[:] = [item for item in items if concerns(item)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@dataclass(frozen=True)
class Case:
    """A network with one input for it and what torch makes of that."""

    name: str
    module: torch.nn.Module
    input: torch.Tensor
    expected: torch.Tensor

    def copy(self) -> torch.nn.Module:
        """A module of its own, for changes in place, around the same weights."""
        return networks.with_same_weights(self.module)


@pytest.fixture(scope="module", params=networks.NETWORKS)
def network(request: pytest.FixtureRequest) -> Case:
    loaded = networks.load(request.param)
    shape = (1, *networks.SMALL.get(request.param, loaded.input_shape)[1:])
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return Case(request.param, loaded.module, sample, loaded.module(sample))
