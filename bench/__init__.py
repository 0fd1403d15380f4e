"""The benchmarks: `python -m bench.layers.conv2d`, `python -m bench.swap_backend.vgg16`, ..."""

from collections.abc import Iterable
from importlib import import_module

from runners.suite import Suite, install


def _suite(module: str) -> Suite:
    """A suite's module has `NAMES`, and `cases(name, algorithms)` for what to measure under one of
    them, with those of `algorithms` (all where it is None). It may have `SETS`, further names,
    and `OVER_SETS`, the operations that are measured with them ('conv2d' by the set's name alone,
    'op, set' another);
    `add_arguments(parser)` and `prepare(options)`, for options of its own; and
    `summary(results)`, the tables at the end."""

    def names() -> Iterable[str]:
        return tuple(import_module(module).NAMES)

    def run(name: str | None, arguments: list[str]) -> int:
        from bench import command

        suite = import_module(module)
        return command.main(f"python -m {module}", suite, name, arguments)

    return Suite(names, run)


install(
    {f"bench.{name}": _suite(f"bench.{name}") for name in ("layers", "swap_conv2d", "swap_backend")}
)
