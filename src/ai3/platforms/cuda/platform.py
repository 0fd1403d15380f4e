"""The platform; nothing of torch's or of CUDA's is imported before somebody asks for it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ai3.platforms.cuda.launch import ALIGNMENT
from ai3.platforms.platform import Algorithm, Platform, Replayed, Stopwatch

if TYPE_CHECKING:
    from ai3.platforms.cuda.cublas import CublasLt
    from ai3.platforms.cuda.cudnn import Cudnn
    from ai3.platforms.cuda.driver import Driver


class Cuda(Platform):
    name = "cuda"
    device = "cuda"
    alignment = ALIGNMENT

    def missing(self) -> str:
        if find_spec("torch") is None:
            return "torch is not installed"
        import torch

        if torch.version.cuda is None:
            return f"this torch, {torch.__version__}, was built without CUDA"
        if torch.cuda.is_available():
            return ""
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:  # of which some tell what to do
            return f"torch cannot use a GPU: {str(error).partition('. ')[0].rstrip('.')}"
        return "torch finds no GPU"

    def libraries(self) -> Mapping[str, str]:
        from ai3.platforms.cuda import triton

        missing = self.missing()
        if missing:
            return dict.fromkeys(("cudnn", "cublas", "triton"), missing)
        found = {"cudnn": lambda: self.cudnn, "cublas": lambda: self.cublas}
        return {name: _why(load) for name, load in found.items()} | {"triton": triton.missing(self)}

    @cached_property
    def cudnn(self) -> "Cudnn":
        """Raises OSError where it cannot be used."""
        from ai3.platforms.cuda.cudnn import Cudnn
        from ai3.platforms.cuda.libraries import loaded

        return Cudnn(loaded("cudnn", ("libcudnn.so.9", "cudnn64_9.dll")), self.stream)

    @cached_property
    def cublas(self) -> "CublasLt":
        """Raises OSError where it cannot be used."""
        from ai3.platforms.cuda.cublas import CublasLt
        from ai3.platforms.cuda.libraries import loaded

        versions = (13, 12)
        names = [f"libcublasLt.so.{n}" for n in versions]
        return CublasLt(loaded("cuBLASLt", names), self.stream)

    @cached_property
    def driver(self) -> "Driver":
        """Raises OSError where it cannot be used."""
        import torch

        from ai3.platforms.cuda.driver import Driver
        from ai3.platforms.cuda.libraries import loaded

        torch.cuda.init()  # which loads it
        return Driver(loaded("CUDA's driver", ("libcuda.so.1", "nvcuda.dll")))

    def stream(self, index: int) -> int:
        """torch's current one of a device."""
        import torch

        return int(torch._C._cuda_getCurrentRawStream(index))

    def make_algorithms(self) -> Mapping[str, Sequence[Algorithm]]:
        from ai3.platforms.cuda import algorithms

        return algorithms.made(self)

    def current_device(self) -> int:
        import torch

        return torch.cuda.current_device()

    def capability(self, index: int) -> int:
        """That of a device: 90 for 9.0."""
        import torch

        major, minor = torch.cuda.get_device_capability(index)
        return 10 * major + minor

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        import torch

        return torch.cuda.device(device)

    def is_current(self, device: Any) -> bool:
        import torch

        return bool(torch._C._cuda_getDevice() == device.index)

    def settings(self) -> Any:
        """Whether TF32 is permitted for convolutions and for products, and whether algorithms are
        to be deterministic. Asked at every call, so of what torch.backends asks."""
        from torch import _C

        deterministic = _C._get_deterministic_algorithms() or _C._get_cudnn_deterministic()
        try:
            return (_C._get_cudnn_allow_tf32(), _C._get_cublas_allow_tf32(), deterministic)
        except RuntimeError:  # the network's user says it by torch's newer `fp32_precision`
            from torch import backends

            new = (backends.cudnn.conv, backends.cuda.matmul)  # type: ignore[attr-defined]
            return (*(each.fp32_precision == "tf32" for each in new), deterministic)

    def image_layout(self, dtype: str) -> str:
        # That of tensor cores.
        return "channels_last" if dtype in ("float16", "bfloat16") else "dense"

    def synchronize(self, device: Any) -> None:
        import torch

        torch.cuda.synchronize(device)

    def name_of(self, device: Any = None) -> str:
        import torch

        return torch.cuda.get_device_name(device)

    def version(self) -> str:
        import torch

        try:
            cudnn = f", cuDNN {self.cudnn.version}"
        except OSError:
            cudnn = ""
        return f"torch {torch.__version__}{cudnn}"

    def elementwise(self, program: str, inputs: Sequence[Any], output: Any = None) -> Any:
        from ai3.platforms.cuda import elementwise, triton

        if triton.missing(self):
            return None
        return elementwise.run(self, program, inputs, output)

    def stopwatch(self, device: Any) -> Stopwatch:
        from ai3.platforms.cuda.graphs import EventWatch

        return EventWatch()

    def replayable(self, run: Replayed, inputs: Sequence[Any]) -> Replayed:
        from ai3.platforms.cuda.graphs import captured

        return captured(run, inputs)


def _why(load: Any) -> str:
    try:
        load()
    except OSError as error:
        return str(error)
    return ""
