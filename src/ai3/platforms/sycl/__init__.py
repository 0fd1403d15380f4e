"""SYCL: kernels for Intel's GPUs and, through an OpenCL runtime, for this computer's processor.

On the processor they are algorithms of names of their own, such as "sycl direct", beside those of
the core. They are never a default.
"""

from ai3.platforms import register
from ai3.platforms.sycl import runtime
from ai3.platforms.sycl.platform import Xpu

PREFIX = "sycl "


def add_to_core() -> None:
    """Adds the processor's, where the OpenCL runtime is installed. It is loaded when one is
    planned."""
    if runtime.missing():
        return
    from ai3.platforms.sycl import processor

    processor.add_to_core()


register(Xpu())
