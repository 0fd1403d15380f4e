"""The tests; `python -m test`, `python -m test.unit.conv2d`, or pytest itself."""

import os
from pathlib import Path

from runners.suite import Suite, install

FOLDER = Path(__file__).parent
SUITES = ("unit", "swap_conv2d", "swap_backend")


def _pytest(*arguments: str) -> int:
    import pytest

    return int(pytest.main(list(arguments)))


def _whole(arguments: list[str]) -> int:
    """On all processors; of what takes memory of its own, a few at a time. Each process has a
    thread for each processor, which are not to spin where they wait for another process's."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return _pytest(str(FOLDER), "-n", "auto", "--maxprocesses=4", "--dist=worksteal", *arguments)


def _operations() -> list[str]:
    return [file.stem.removeprefix("test_") for file in (FOLDER / "unit").glob("test_*.py")]


def _networks() -> list[str]:
    from runners import networks

    return list(networks.NETWORKS)


def _unit(name: str | None, arguments: list[str]) -> int:
    file = f"test_{name}.py" if name else ""
    return _pytest(str(FOLDER / "unit" / file), *arguments)


def _network_suite(folder: str) -> Suite:
    # Networks of whole packages, which take minutes.
    large = {
        file.stem.removesuffix("_networks"): file
        for file in (FOLDER / folder).glob("*_networks.py")
        if file.stem != "test_networks"
    }

    def run(name: str | None, arguments: list[str]) -> int:
        if name in large:
            return _pytest(str(large[name]), *arguments)
        chosen = ["--network", name] if name else []
        return _pytest(str(FOLDER / folder), *chosen, *arguments)

    return Suite(lambda: [*_networks(), *large], run)


install(
    {
        "test": Suite(lambda: SUITES, lambda name, arguments: _whole(arguments)),
        "test.unit": Suite(_operations, _unit),
        "test.swap_conv2d": _network_suite("swap_conv2d"),
        "test.swap_backend": _network_suite("swap_backend"),
    }
)
