"""Lets `python -m <suite>` and `python -m <suite>.<name>` run without a file for each name.

A package that holds suites calls `install` in its `__init__`: from then on a module of a suite that
is no file is one of the suite's names (an operation, a network), and running it runs the suite for
that name alone.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import CodeType, ModuleType


@dataclass(frozen=True)
class Suite:
    """`names()` are those that can be run alone; `run(name, arguments)` returns the exit status,
    its name is None when the whole suite is meant."""

    names: Callable[[], Iterable[str]]
    run: Callable[[str | None, list[str]], int]


def install(suites: Mapping[str, Suite]) -> None:
    """`suites`: dotted package name -> suite. Real modules in those packages go first."""
    sys.meta_path.append(_Finder(suites))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, suites: Mapping[str, Suite]) -> None:
        self.suites = suites

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package not in self.suites:
            return None
        loader = _Loader(self.suites[package], package, None if name == "__main__" else name)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=f"suite {package}")


class _Loader(importlib.abc.InspectLoader):
    """`runpy`, which is behind `python -m`, asks the loader for code and executes that."""

    def __init__(self, suite: Suite, package: str, name: str | None) -> None:
        self.suite, self.package, self.name = suite, package, name

    def get_code(self, fullname: str) -> CodeType:
        names = sorted(self.suite.names())
        if self.name is not None and self.name not in names:
            sys.exit(_unknown(self.package, self.name, names))
        source = "import sys\nsys.exit(__spec__.loader.run(sys.argv[1:]))\n"
        return compile(source, f"<{fullname}>", "exec")

    def run(self, arguments: list[str]) -> int:
        return self.suite.run(self.name, arguments)

    def get_source(self, fullname: str) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(f"{module.__name__} is to be run: python -m {module.__name__}")


def _unknown(package: str, name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{package} has no '{name}'{hint}\nIt has: {', '.join(names)}"
