"""Intel's OpenCL runtime for CPUs: whether it is installed. Looks, and loads nothing."""

from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "intel-opencl-rt"
VERSIONS = range(2025, 2027)
"""The major versions of the runtime that the kernels were run with."""
LIBRARY = "libintelocl.so"


@cache
def missing() -> str:
    """Why the runtime cannot be used, as a clause; empty where it is installed."""
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        return f"{PACKAGE} is not installed (pip install 'ai3[sycl]')"
    version = found.version
    if int(version.partition(".")[0]) not in VERSIONS:
        return (
            f"{PACKAGE} {version} is installed, and the kernels are for "
            f"{VERSIONS.start} to {VERSIONS.stop - 1} (pip install 'ai3[sycl]')"
        )
    path = _library_of(found)
    return "" if path.exists() else f"{path} of {PACKAGE} is not there (pip install 'ai3[sycl]')"


def library() -> Path:
    """That of the runtime that is installed."""
    return _library_of(distribution(PACKAGE))


def _library_of(found: Distribution) -> Path:
    names = [file for file in found.files or () if file.name == LIBRARY]
    return Path(str(found.locate_file(names[0]))).resolve() if names else Path(LIBRARY)
