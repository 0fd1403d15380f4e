"""Apple's GPUs: torch's own convolutions by Metal Performance Shaders, and kernels in Metal."""

from collections.abc import Mapping, Sequence
from typing import Any

from ai3.platforms import register
from ai3.platforms.platform import Algorithm, Platform


class Mps(Platform):
    """The algorithm "mps" is torch's own; "metal" the best of our kernels, which have names too."""

    name = "mps"
    device = "mps"

    def missing(self) -> str:
        try:
            import torch
        except ImportError:
            return "torch is not installed"
        if not torch.backends.mps.is_built():
            return "this torch was built without MPS, which is for macOS alone"
        if not torch.backends.mps.is_available():
            return "there is no device of Metal's, or macOS is too old for this torch"
        return ""

    def libraries(self) -> Mapping[str, str]:
        return {"metal": self.missing() or _no_compiler()}

    def synchronize(self, device: Any) -> None:
        import torch

        torch.mps.synchronize()

    def make_algorithms(self) -> Mapping[str, Sequence[Algorithm]]:
        from ai3.platforms.mps.table import algorithms

        return algorithms()

    def version(self) -> str:
        import platform

        import torch

        return f"torch {torch.__version__}, macOS {platform.mac_ver()[0]}"


def _no_compiler() -> str:
    import torch

    if not hasattr(torch.mps, "compile_shader"):
        return f"torch.mps.compile_shader came with torch 2.7, and this is {torch.__version__}"
    return ""


register(Mps())
