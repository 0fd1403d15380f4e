"""Whether Triton is there."""

from importlib.util import find_spec


def missing() -> str:
    """Why our own kernels cannot run, as a clause; empty where they can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    return ""
