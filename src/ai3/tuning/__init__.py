"""Choosing by measuring: `ai3.tune`, and the measured times that it keeps for all processes."""

from os import PathLike
from typing import TYPE_CHECKING, Any

from ai3 import cache

if TYPE_CHECKING:
    from ai3.tuning.database import Times
    from ai3.tuning.tuned import Tuned

__all__ = ["clear", "export", "import_", "tune"]

NAME = "measured-1.sqlite3"
"""Of the file in the cache's folder, with the version of its tables."""


def tune(
    network: Any,
    *inputs: Any,
    seconds: float = 60.0,
    accuracy: float | None = None,
    against: str = "float64",
    memory: "int | str | None" = None,
    gradients: bool = False,
    check: bool = True,
) -> "Tuned":
    """Measure which algorithms and layouts are the fastest for a network on this machine.

    Every distinct problem is measured once, on any network, with as many threads as are set now:
    what is found is kept in the user's cache (`AI3_CACHE_DIR`) and used from then on wherever
    "default" or "guess" choose, in every process. Ctrl-C stops it, with what it has found.

    Args:
        network: a `Model`, which uses the choice from then on; or a torch network, which is not
            changed: hand what comes back to `swap_backend` or `swap_conv2d`. Where it is on a
            device of a platform's, its convolutions are measured there; budgets are for the CPU.
        inputs: arrays as the network gets them.
        seconds: how long it may take; the problems that take most of the network come first.
        accuracy: the relative L2 error, against `against`, that the network's outputs may have on
            these inputs. Algorithms that round to bfloat16 may then be chosen, and what is less
            exact than the default's 1e-5.
        against: "float64", or "float32" of the most exact algorithms.
        memory: what the model may add to the process, packed weights, workspace and activations:
            bytes, or a multiple of the network's weights such as "1.5x".
        gradients: whether those of a torch network's convolutions are measured too, for training
            after `swap_conv2d`.
        check: whether the whole network is timed in the end, and the choice taken only where it is
            not slower.

    Returns:
        The choice; printed, what it gains.

    Raises:
        ai3.errors.BudgetError: a budget that nothing keeps, with the layer that needs most and the
            least that is possible. Then nothing is changed.
        ValueError: inputs that do not go through the network, or a budget that is none.

    Warns:
        RuntimeWarning: the cache cannot be written; the choice then holds for this process.
    """
    from ai3.tuning import choose

    budgets = choose.Budgets(accuracy, against, memory)
    return choose.tune(network, inputs, seconds, budgets, gradients, check)


def export(path: "str | PathLike[str]") -> int:
    """Write all measured times to a file, for other machines of this kind; how many there are.

    Raises OSError where it cannot be written, FileNotFoundError where nothing was measured.
    """
    from ai3.tuning import whole

    return whole.export(path)


def import_(path: "str | PathLike[str]") -> int:
    """Add the measured times of a file that `export` wrote, in the place of what was measured here
    of the same problems; how many of them are of a machine of this kind, and so are used.

    Raises ValueError for any other file, OSError where the cache cannot be written; then nothing
    was added.
    """
    from ai3.tuning import whole

    return whole.import_(path)


def clear() -> None:
    """Forget all measured times. Raises OSError where their file cannot be removed."""
    from ai3.tuning import whole

    whole.clear()


def opened() -> "Times | None":
    """The measured times of this machine; None, at the price of a look, where there is no file."""
    if not (cache.folder() / NAME).exists():
        return None
    from ai3.tuning import database

    return database.opened()
