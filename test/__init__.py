"""The tests; `python -m test`, `python -m test.unit.conv2d`, or pytest itself."""

from pathlib import Path

from runners.suite import Suite, install

FOLDER = Path(__file__).parent
SUITES = ("unit", "swap_conv2d", "swap_backend")


def _pytest(*arguments: str) -> int:
    import pytest

    return int(pytest.main(list(arguments)))


def _operations() -> list[str]:
    return [file.stem.removeprefix("test_") for file in (FOLDER / "unit").glob("test_*.py")]


def _networks() -> list[str]:
    from runners import networks

    return list(networks.NETWORKS)


def _unit(name: str | None, arguments: list[str]) -> int:
    file = f"test_{name}.py" if name else ""
    return _pytest(str(FOLDER / "unit" / file), *arguments)


def _network_suite(folder: str) -> Suite:
    def names() -> list[str]:
        return [*_networks(), *(["all"] if (FOLDER / folder / "all_networks.py").exists() else [])]

    def run(name: str | None, arguments: list[str]) -> int:
        if name == "all":
            return _pytest(str(FOLDER / folder / "all_networks.py"), *arguments)
        chosen = ["--network", name] if name else []
        return _pytest(str(FOLDER / folder), *chosen, *arguments)

    return Suite(names, run)


install(
    {
        "test": Suite(lambda: SUITES, lambda name, arguments: _pytest(str(FOLDER), *arguments)),
        "test.unit": Suite(_operations, _unit),
        "test.swap_conv2d": _network_suite("swap_conv2d"),
        "test.swap_backend": _network_suite("swap_backend"),
    }
)
