"""The ways in which others run a torch network on a CPU, in float32 and in bfloat16."""

import contextlib
import copy
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

Call = Callable[[], object]
Run = Callable[[torch.Tensor], object]

TORCH = "torch"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")


def call(run: Run, sample: torch.Tensor) -> Call:
    @torch.inference_mode()
    def on_sample() -> object:
        return run(sample)

    return on_sample


def sides(
    module: nn.Module, sample: torch.Tensor, threads: int, precision: str = "float32"
) -> tuple[dict[str, Call], dict[str, float]]:
    """The sides that can be had here, torch in float32 first, and the seconds that the first call
    of each took; what fails is left out with a word."""
    first: dict[str, float] = {}
    made = runs(module, sample, threads, precision, first)
    return {k: call(run, sample) for k, run in made.items()}, first


def runs(
    module: nn.Module,
    sample: torch.Tensor,
    threads: int,
    precision: str = "float32",
    first: dict[str, float] | None = None,
) -> dict[str, Run]:
    """The same, for any inputs of the sample's shape; `first` is filled."""
    made = {}
    first = {} if first is None else first
    for name, (package, make) in (_PEERS if precision == "float32" else _NARROW_PEERS).items():
        if package and find_spec(package) is None:
            continue
        try:
            with _quiet():
                run = make(module, sample, threads)
                started = time.perf_counter()
                call(run, sample)()
                first[name] = time.perf_counter() - started
            made[name] = run
        except Exception as error:
            print(f"{name} is left out: {type(error).__name__}: {str(error)[:200]}")
    return made


def missing() -> dict[str, str]:
    """The peers whose packages are not installed."""
    return {
        name: package
        for name, (package, _) in _PEERS.items()
        if package and find_spec(package) is None
    }


def _eager(module: nn.Module, sample: torch.Tensor, threads: int) -> Run:
    return module


def _compiled(module: nn.Module, sample: torch.Tensor, threads: int) -> Run:
    from torch._inductor import config

    torch._dynamo.reset()
    config.freezing = True
    return torch.compile(module, dynamic=False)  # type: ignore[no-any-return]


def _onnxruntime(module: nn.Module, sample: torch.Tensor, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(module, (sample,), str(path), dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _narrow_eager(module: nn.Module, sample: torch.Tensor, threads: int) -> Run:
    narrow = copy.deepcopy(module).to(torch.bfloat16, memory_format=torch.channels_last)

    def run(x: torch.Tensor) -> torch.Tensor:
        x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        return narrow(x).float()  # type: ignore[no-any-return]

    return run


def _narrow_openvino(module: nn.Module, sample: torch.Tensor, threads: int) -> Run:
    return _openvino(module, sample, threads, "bf16")


def _openvino(module: nn.Module, sample: torch.Tensor, threads: int, precision: str = "f32") -> Run:
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(module, example_input=sample, input=[sample.shape])
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


_PEERS: dict[str, tuple[str, Callable[[nn.Module, torch.Tensor, int], Run]]] = {
    TORCH: ("", _eager),
    "torch.compile": ("", _compiled),
    "ONNX Runtime": ("onnxruntime", _onnxruntime),
    "OpenVINO": ("openvino", _openvino),
}
"""Name -> the package that it needs, and what makes it of a module, a sample and the threads."""

_NARROW_PEERS: dict[str, tuple[str, Callable[[nn.Module, torch.Tensor, int], Run]]] = {
    TORCH: ("", _eager),
    "torch bfloat16": ("", _narrow_eager),
    "OpenVINO bfloat16": ("openvino", _narrow_openvino),
}

NAMES = (*_PEERS, *_NARROW_PEERS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converters have to tell."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
