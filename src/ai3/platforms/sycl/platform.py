"""Intel's GPUs, as torch's devices "xpu"."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ai3.platforms.platform import Algorithm, Platform
from ai3.platforms.sycl import runtime


class Xpu(Platform):
    name = "xpu"
    device = "xpu"

    def missing(self) -> str:
        try:
            import torch
        except ImportError:
            return "torch is not installed"
        if not torch.xpu.is_available():
            return "torch finds no Intel GPU, or was built without XPU"
        from ai3.platforms.sycl import queue

        return queue.missing()

    def libraries(self) -> Mapping[str, str]:
        """SYCL runs there, or through OpenCL on this computer's processor."""
        here, there = runtime.missing(), self.missing()
        return {"sycl": "" if not (here and there) else f"{here}; on Intel's GPUs: {there}"}

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        import torch

        guard: AbstractContextManager[Any] = torch.xpu.device(device)
        return guard

    def is_current(self, device: Any) -> bool:
        import torch

        return bool(device.index is None or device.index == torch.xpu.current_device())

    def synchronize(self, device: Any) -> None:
        import torch

        torch.xpu.synchronize(device)

    def make_algorithms(self) -> Mapping[str, Sequence[Algorithm]]:
        from ai3.platforms.sycl.xpu import algorithms

        return algorithms()
