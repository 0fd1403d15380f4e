"""The platform for NVIDIA's GPUs on the tests' own devices, with stand_in.c in the places of its
libraries, and with Triton's interpreter for its kernels."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ai3.platforms import register, unregister
from ai3.platforms.cuda import launch
from ai3.platforms.cuda.cublas import CublasLt
from ai3.platforms.cuda.cudnn import Cudnn
from ai3.platforms.cuda.driver import Driver
from ai3.platforms.cuda.platform import Cuda
from ai3.platforms.platform import Replayed, Stopwatch
from test.platforms import device

SOURCE = Path(__file__).with_name("stand_in.c")


@cache
def library() -> ctypes.CDLL:
    made = device.built(SOURCE, ["-std=gnu17", "-O1", "-fPIC", "-shared"], compiler="cc")
    found = ctypes.CDLL(str(made))
    found.calls.restype = ctypes.c_char_p
    found.need.argtypes = [ctypes.c_size_t]
    return found


def calls(*names: str) -> list[str]:
    lines = library().calls().decode().splitlines()
    return [line for line in lines if not names or line.split()[0] in names]


class OnMirror(Cuda):
    """The platform on devices whose memory is the CPU's. Programs of single elements are torch's,
    but where a test wants them `by_kernels`."""

    name = "cuda on mirrors"
    device = "mirror"
    tf32 = strict = by_kernels = False

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["cudnn"] = Cudnn(library(), self.stream)
        self.__dict__["cublas"] = CublasLt(library(), self.stream)
        self.__dict__["driver"] = Driver(library())

    def missing(self) -> str:
        return ""

    def stream(self, index: int) -> int:
        return 7 + index

    def current_device(self) -> int:
        return int(torch.mirror.current_device())  # type: ignore[attr-defined]

    def capability(self, index: int) -> int:
        return 90

    def name_of(self, device: Any = None) -> str:
        return "a mirror"

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        return mirrors.guard(device)

    def is_current(self, device: Any) -> bool:
        return self.current_device() == device.index

    def settings(self) -> Any:
        return (self.tf32, self.tf32, self.strict)

    def elementwise(self, program: str, inputs: Sequence[Any], output: Any = None) -> Any:
        return super().elementwise(program, inputs, output) if self.by_kernels else None

    def synchronize(self, device: Any) -> None:
        pass

    def stopwatch(self, device: Any) -> Stopwatch:
        return Stopwatch(lambda: None)

    def replayable(self, run: Replayed, inputs: Any) -> Replayed:
        return run


mirrors = device.Mirror()


@contextmanager
def available() -> Iterator[OnMirror]:
    """The platform, within which its devices are there."""
    library().forget()
    with device.available(), interpreted():
        platform = OnMirror()
        register(platform)
        try:
            yield platform
        finally:
            unregister(platform.name)


@contextmanager
def interpreted() -> Iterator[None]:
    """Within which Triton's interpreter, which knows no such devices, takes their memory as the
    CPU's."""
    before = launch.interpreted

    def on_memory(*given: Any) -> Callable[..., None]:
        run = before(*given)
        return lambda *tensors: run(*map(on_cpu, tensors))

    launch.interpreted = on_memory  # type: ignore[assignment]
    yield
    launch.interpreted = before


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor of the CPU's."""
    if tensor.is_cpu or not tensor.numel():
        return tensor.cpu()
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    extent = 1 + sum((size - 1) * stride for size, stride in pairs)
    memory = (ctypes.c_char * (extent * tensor.element_size())).from_address(tensor.data_ptr())
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=extent)
    return flat.as_strided(tensor.shape, tensor.stride())
