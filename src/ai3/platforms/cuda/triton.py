"""Whether our own kernels can run."""

from importlib.util import find_spec
from typing import Any


def missing(platform: Any) -> str:
    """Why not, as a clause; empty where they can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        _ = platform.driver
    except OSError as error:
        return str(error)
    return ""
