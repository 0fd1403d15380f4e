"""The devices "mirror:0" and "mirror:1", see device.cpp, and a platform of theirs."""

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

from ai3.platforms import native
from ai3.platforms.platform import Algorithm, Platform, Run

SOURCE = Path(__file__).with_name("device.cpp")
BUILT = Path(__file__).parents[2] / "build" / "test"
TORCH = Path(torch.__file__).parent


@contextmanager
def available() -> Iterator[None]:
    """Within which torch has the devices."""
    library = _loaded()
    torch.mirror.available = True  # type: ignore[attr-defined]
    library.set_available(1)
    yield
    library.set_available(0)
    torch.mirror.available = False  # type: ignore[attr-defined]


@cache
def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_compiled()))

    class Backend(ModuleType):
        available = False

        def is_available(self) -> bool:
            return self.available

        def device_count(self) -> int:
            return 2 * self.available

        def current_device(self) -> int:
            return int(library.current_device())

        def set_device(self, index: int) -> None:
            library.set_device(index)

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

        def _is_in_bad_fork(self) -> bool:
            return False

        def manual_seed_all(self, seed: int) -> None:
            pass

    torch.utils.rename_privateuse1_backend("mirror")
    torch._register_device_module("mirror", Backend("mirror"))
    torch.utils.generate_methods_for_privateuse1_backend()
    return library


def _compiled() -> Path:
    include, lib = TORCH / "include", TORCH / "lib"
    flags = [
        *("-std=c++20", "-O0", "-fPIC", "-shared", "-w"),
        *(f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]
    libraries = [f"-L{lib}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{lib}"]
    return built(SOURCE, flags, libraries, torch.__version__)


def built(
    source: Path,
    flags: Sequence[str],
    libraries: Sequence[str] = (),
    version: str = "",
    compiler: str = "c++",
) -> Path:
    """The library of a source file, compiled where it was not yet."""
    key = hashlib.sha256(repr((source.read_text(), flags, version)).encode()).hexdigest()
    made = BUILT / f"{source.stem}-{key[:16]}.so"
    if not made.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            new = Path(folder) / made.name
            command = [compiler, *flags, str(source), "-o", str(new), *libraries]
            subprocess.run(command, check=True)
            new.replace(made)
    return made


class Columns(Algorithm):
    """A convolution by torch's unfold, of weights that it packs."""

    name = "columns"
    packings = 0

    def refusal(self, p: Any) -> str:
        return "it has groups" if p.groups > 1 else ""

    def probe(self, p: Any) -> str:
        return "it has more than a thousand pixels" if p.OH * p.OW > 1000 else ""

    def workspace_bytes(self, p: Any) -> int:
        return int(p.N * p.IC * p.KH * p.KW * p.OH * p.OW) * 8

    def cost(self, p: Any) -> float:
        return 1.0

    def plan(self, p: Any, weights: Sequence[Any]) -> Run:
        return _ColumnsPlan(self, p, weights)


class _ColumnsPlan:
    def __init__(self, algorithm: Columns, p: Any, weights: Sequence[Any]) -> None:
        self.algorithm, self.p = algorithm, p
        self.weight, self.bias = (*weights, None)[:2]
        self.refresh()

    def refresh(self) -> None:
        self.algorithm.packings += 1
        self.packed = self.weight.flatten(1).clone()

    def __call__(self, inputs: Sequence[Any], output: Any, workspace: Any) -> None:
        p, (x,) = self.p, inputs
        assert x.shape == (p.N, p.IC, p.IH, p.IW) and x.is_contiguous()
        assert (
            workspace.dtype is torch.uint8
            and workspace.numel() == self.algorithm.workspace_bytes(p)
        )
        assert workspace.device == output.device == x.device
        steps = [(p.dilation_h, p.dilation_w), (p.pad_top, p.pad_left), (p.stride_h, p.stride_w)]
        columns = functional.unfold(x, (p.KH, p.KW), *steps)
        y = (self.packed @ columns).view(output.shape)
        output.copy_(y if self.bias is None else y + self.bias[:, None, None])


class Mirror(Platform):
    name = "mirror"
    device = "mirror"
    absent = ""

    def missing(self) -> str:
        return self.absent

    def libraries(self) -> Mapping[str, str]:
        return {"silver": self.absent, "glass": "it is broken"}

    def make_algorithms(self) -> Mapping[str, Sequence[Algorithm]]:
        made = native.native("own", 100.0)
        return {**made, "conv2d": [*made["conv2d"], Columns()]}

    def guard(self, device: Any) -> AbstractContextManager[Any]:
        return _Current(device.index)

    def is_current(self, device: Any) -> bool:
        return bool(torch.mirror.current_device() == device.index)  # type: ignore[attr-defined]


class _Current(AbstractContextManager[Any]):
    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None:
        self.before = torch.mirror.current_device()  # type: ignore[attr-defined]
        torch.mirror.set_device(self.index)  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        torch.mirror.set_device(self.before)  # type: ignore[attr-defined]
