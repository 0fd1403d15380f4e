"""The SYCL kernels on this computer's processor, and what is said where they cannot run."""

import ctypes.util
import multiprocessing
import os
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ai3
from ai3.ops import ON_CPU, ONLY_BY_NAME
from ai3.platforms import sycl
from ai3.platforms.sycl import opencl, runtime, tiles
from ai3.platforms.sycl.kernel import FORMS, Form
from ai3.problem import Problem
from ai3.validation import speed
from ai3.validation.case import Case, Randomly
from ai3.validation.cases import SUITES
from ai3.validation.convolutions import convolution
from ai3.validation.trial import Trial, attempt
from runners import spirv

needs_runtime = pytest.mark.skipif(bool(runtime.missing()), reason=runtime.missing() or "there")
NAMES = [(form.op, sycl.PREFIX + form.name) for form in FORMS]
DRAWN = 5

# What kernels stage in parts: patches that are too large, long rows of weights; and images of which
# a group of work-items makes several rows in one vector, or parts of one long row.
TILED = {
    "far apart": convolution((1, 3, 700, 9), 4, (3, 3), {"dilation": (300, 3)}),
    "far apart across": convolution((1, 2, 7, 900), 3, (2, 3), {"dilation": (2, 400)}),
    "far apart everywhere": convolution((1, 2, 640, 640), 3, (2, 3), {"dilation": 300}),
    "long strides": convolution((1, 2, 300, 2500), 3, (2, 2), {"stride": (90, 140)}),
    "many channels": convolution((1, 530, 9, 9), 130, (3, 3), {"padding": 1}),
    "strided channels": convolution((1, 300, 20, 35), 70, (3, 5), {"stride": 3, "padding": 2}),
    "small": convolution((3, 70, 7, 7), 20, (3, 3), {"padding": 1}),
    "small, strided": convolution((2, 9, 15, 14), 20, (5, 3), {"stride": (3, 2), "padding": 2}),
    "small, dilated": convolution(
        (2, 9, 9, 8), 20, (3, 3), {"dilation": (2, 3), "padding": 3, "padding_mode": "circular"}
    ),
    "pixels": convolution((2, 70, 13, 29), 20, (1, 1), {"groups": 2}),
    "pixels, strided": convolution((2, 70, 15, 29), 20, (1, 1), {"stride": 2}),
    "borders": convolution(
        (1, 150, 11, 40), 9, (5, 3), {"padding": (4, 2), "stride": 2, "padding_mode": "reflect"}
    ),
}


def cases_of(form: Form) -> dict[str, Case]:
    suite = SUITES[form.op]
    drawn = {f"drawn {i}": suite.draw(Randomly(i), form.op) for i in range(DRAWN)}
    tiled = TILED if form.op == "conv2d" else {}
    return {**suite.named, **drawn, **tiled}


@needs_runtime
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.op}-{form.name}")
def test_equals_the_reference(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is the kernel that runs."""
    ran: list[str] = []
    launch = opencl.Kernel.__call__

    def counted(self: opencl.Kernel, *arguments: Any) -> None:
        ran.append(self.name)
        launch(self, *arguments)

    monkeypatch.setattr(opencl.Kernel, "__call__", counted)
    ways: tuple[dict[str, Any], ...] = (
        *({}, {"threads": 3, "values": "special"}),
        *({"strides": "transposed"}, {"threads": 2}),
    )
    for i, (name, case) in enumerate(cases_of(form).items()):
        way, before = ways[i % len(ways)], len(ran)
        found = attempt(Trial(case, **way), sycl.PREFIX + form.name)
        assert found.status == "right", f"{name}, {way}: {found}"
        assert len(ran) > before or 0 in map(prod, case.inputs)
    assert set(ran) == {form.kernel}


def test_small_images_fill_vectors_and_threads() -> None:
    def work(case: Case, threads: int) -> tiles.Work:
        spec = ai3._core.Spec("float32", case.inputs[0])
        weights = [s if s is None else ai3._core.Spec("float32", s) for s in case.weights]
        held = ai3._core.Weights.of([s if s is None else np.zeros(s, "f") for s in case.weights])
        output = ai3._core.problem(case.op, [spec], held, case.attributes).output
        described = (case.op, [spec], weights, output, dict(case.attributes), threads)
        return tiles.direct(Problem(described))

    padded = work(convolution((1, 512, 7, 7), 512, (3, 3), {"padding": 1}), 2)
    assert (padded.groups, padded.size) == ((1, 4, 1), (16, 2, 16))  # 7 rows of 9 in 4 vectors
    pixels = work(convolution((1, 64, 7, 7), 512, (1, 1)), 2)
    assert (pixels.groups, pixels.size) == ((1, 4, 1), (16, 2, 16))
    assert prod(work(convolution((1, 64, 7, 7), 512, (1, 1)), 16).groups) >= 32


@needs_runtime
@pytest.mark.parametrize(("op", "name"), NAMES)
def test_other_types_are_refused(op: str, name: str) -> None:
    case = next(iter(SUITES[op].named.values()))
    found = attempt(Trial(case, dtype="float64"), name)
    assert found.status == "refused"
    assert found.why == "the data is float64, and SYCL's kernels compute in float32"


@needs_runtime
def test_in_networks() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 9, 1),
        nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(36, 5),
    )  # fmt: skip
    x = torch.randn(2, 3, 17, 19)
    expected = module(x).detach()
    model = ai3.swap_backend(module, dict(dict(reversed(NAMES)), conv2d="sycl smm"))
    torch.testing.assert_close(torch.as_tensor(model(x)), expected, rtol=1e-5, atol=1e-5)
    used = {node.algorithm for node in model.profile(x)}
    assert {"sycl smm", "sycl direct"} <= used
    ai3.swap_conv2d(module, ["sycl direct", "sycl implicit gemm"])
    assert [row.algorithm for row in ai3.swapped(module)] == ["sycl direct", "sycl implicit gemm"]
    y = module(x)
    torch.testing.assert_close(y.detach(), expected, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    with torch.no_grad():
        module[0].weight.mul_(2)
    first = module[0]
    changed = nn.functional.conv2d(x, first.weight, first.bias, padding=1)
    torch.testing.assert_close(first(x), changed, rtol=1e-5, atol=1e-5)


@needs_runtime
def test_taken_only_by_name() -> None:
    module = nn.Conv2d(8, 8, 3)
    ai3.swap_conv2d(module, "guess", (1, 8, 12, 12))
    assert not ai3.swapped(module)[0].algorithm.startswith("sycl")
    every = {(op, name) for op, names in ON_CPU.items() for name in names if "sycl" in name}
    assert every == set(NAMES) == ONLY_BY_NAME
    case = convolution((1, 8, 9, 9), 8, (3, 3))
    compared = [name for name, _ in speed._sides(case, "direct")]
    assert "smm" in compared and not any(name.startswith("sycl") for name in compared)
    assert "sycl direct" in [name for name, _ in speed._sides(case, "sycl direct")]


@needs_runtime
@pytest.mark.skipif(bool(spirv.missing()), reason=spirv.missing() or "there")
def test_kernels_are_what_their_sources_give(tmp_path: Path) -> None:
    made = spirv.compile_all(tmp_path)
    assert set(made) == {form.source for form in FORMS}
    for name, image in made.items():
        assert (spirv.KERNELS / f"{name}.spv").read_bytes() == image, f"{name}: ./run spirv"


ON_A_QUEUE = """
import ctypes, sys, torch
from ai3.platforms.sycl import queue, xpu
from ai3.platforms.sycl.kernel import FORMS
from ai3.problem import Problem
from ai3.validation.cases import SUITES
from ai3 import _core

maker = ctypes.CDLL(sys.argv[1])
maker.make.restype = ctypes.c_void_p
made = maker.make()
queue.library()
xpu.Tensors.__init__.__defaults__ = ("cpu",)
torch.manual_seed(0)
ran = 0
for form in FORMS:
    algorithm = xpu.OnQueue(form, lambda: made)
    for name, case in list(SUITES[form.op].named.items())[:9]:
        x = torch.randn(case.inputs[0])
        weights = [s if s is None else torch.randn(s) for s in case.weights]
        problem = _core.problem(
            form.op, [_core.Spec("float32", x.shape)], _core.Weights.of(weights), case.attributes
        )
        specs = [w if w is None else _core.Spec("float32", w.shape) for w in weights]
        described = form.op, problem.inputs, specs, problem.output, dict(case.attributes), 1
        given = Problem(described, "xpu")
        assert not algorithm.refusal(given)
        output = torch.full(problem.output.shape, float("nan"))
        run = algorithm.plan(given, weights)
        run([x], output, None)
        maker.wait(ctypes.c_void_p(made))
        torch.testing.assert_close(output, problem.reference(x).torch(), rtol=1e-4, atol=1e-4)
        ran += 1
find, found = queue.library().ai3_sycl_kernel, []

def counted(*given):
    said = find(*given)
    found.append(given[-1]._obj.value)
    return said

queue.library().ai3_sycl_kernel = counted
for _ in range(2):
    queue.Queue(lambda: made).kernel("relu", "relu_direct")
assert found[0] == found[1], "compiled anew"
print(ran)
"""
MAKER = """
#include <sycl/sycl.hpp>
extern "C" sycl::queue* make() { return new sycl::queue(sycl::cpu_selector_v); }
extern "C" void wait(sycl::queue* queue) { queue->wait(); }
"""


@needs_runtime
@pytest.mark.skipif(bool(spirv.missing()), reason=spirv.missing() or "there")
def test_on_a_queue_that_somebody_else_made(tmp_path: Path) -> None:
    """As on torch's "xpu" devices, of the processor's memory."""
    source, library = tmp_path / "maker.cpp", tmp_path / "maker.so"
    source.write_text(MAKER)
    lib = spirv.libraries()
    options = (f"-I{lib.parent / 'include'}", f"-L{lib}", "-lsycl", f"-Wl,-rpath,{lib}")
    command = ["c++", "-std=c++20", "-w", "-shared", "-fPIC", str(source), *options]
    subprocess.run([*command, "-o", str(library)], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", ON_A_QUEUE, str(library)],
        env=spirv.environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 6 * len(FORMS)


CODE = """
import sys, torch, ai3
from ai3.platforms.sycl import opencl
compiled = []
build = opencl.Device._compile
opencl.Device._compile = lambda self, il: compiled.append(il) or build(self, il)
x = torch.randn(1, 3, 9, 9); w = torch.randn(4, 3, 3, 3)
y = ai3.layers.Conv2D(w, algorithm="sycl direct")(x)
torch.testing.assert_close(y, torch.nn.functional.conv2d(x, w), rtol=1e-4, atol=1e-4)
print(len(compiled))
"""


@needs_runtime
def test_compiled_once_for_all_processes(tmp_path: Path) -> None:
    def compilations() -> int:
        own = {**os.environ, "AI3_CACHE_DIR": str(tmp_path)}
        ran = subprocess.run([sys.executable, "-c", CODE], env=own, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return int(ran.stdout)

    assert [compilations(), compilations()] == [1, 0]
    (kept,) = (tmp_path / "sycl").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert compilations() == 1
    tmp_path.joinpath("sycl", "other").mkdir()


def _in_a_child(x: torch.Tensor, layer: Any, told: Any) -> None:
    try:
        layer(x)
        told.put("it ran")
    except Exception as error:
        told.put(str(error))


@needs_runtime
def test_a_forked_process_is_told() -> None:
    """Though it has another number of threads, for which it plans anew."""
    x = torch.randn(1, 3, 9, 9)
    layer = ai3.layers.Conv2D(torch.randn(4, 3, 3, 3), algorithm="sycl direct")
    layer(x)
    fork = multiprocessing.get_context("fork")
    told = fork.Queue()
    child = fork.Process(target=_in_a_child, args=(x, layer, told))
    child.start()
    assert "start processes by 'spawn'" in told.get(timeout=60)
    child.join(60)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        runtime.missing.cache_clear()
        return runtime.missing()

    try:
        if not reason():
            monkeypatch.setattr(runtime, "LIBRARY", "libnothing.so")
            assert "libnothing.so of intel-opencl-rt is not there" in reason()
            monkeypatch.undo()
        monkeypatch.setattr(runtime, "PACKAGE", "no-such-runtime")
        assert reason() == "no-such-runtime is not installed (pip install 'ai3[sycl]')"
        added: list[Any] = []
        monkeypatch.setattr(ai3._core, "add_algorithm", lambda *of: added.append(of))
        sycl.add_to_core()
        assert not added and not ai3.using_sycl()
        row = next(row for row in ai3.platforms() if row.name == "sycl")
        assert not row.available and "no-such-runtime is not installed" in row.reason
    finally:
        monkeypatch.undo()
        runtime.missing.cache_clear()


OTHER = """
import ai3
row = next(row for row in ai3.platforms() if row.name == "sycl")
print(row.available, ai3.using_sycl(), [n for n in ai3.SUPPORTED_ALGORITHMS["relu"] if "sycl" in n])
print(row.reason)
"""


@pytest.mark.parametrize("version", ["2024.2.2", f"{runtime.VERSIONS.stop}.0.0"])
def test_a_runtime_of_another_major_version_counts_as_absent(tmp_path: Path, version: str) -> None:
    (tmp_path / f"intel_opencl_rt-{version}.dist-info").mkdir()
    metadata = tmp_path / f"intel_opencl_rt-{version}.dist-info" / "METADATA"
    metadata.write_text(f"Metadata-Version: 2.1\nName: intel-opencl-rt\nVersion: {version}\n")
    own = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", OTHER], env=own, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found, reason = ran.stdout.splitlines()
    assert found == "False False []"
    assert reason.startswith(
        f"intel-opencl-rt {version} is installed, and the kernels are for 2025 to 2026 "
        "(pip install 'ai3[sycl]')"
    )


@needs_runtime
def test_a_runtime_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without an interface of OpenCL's, and kernels that it does not take."""
    case = convolution((1, 1, 3, 3), 1, (2, 2))
    opencl.device.cache_clear(), opencl._processor.cache_clear()
    monkeypatch.setattr(runtime, "library", lambda: Path(ctypes.util.find_library("m") or ""))
    try:
        found = attempt(Trial(case), "sycl direct")
    finally:
        opencl.device.cache_clear(), opencl._processor.cache_clear()
    assert found.status == "refused" and found.why.startswith("intel-opencl-rt cannot be loaded: ")


@needs_runtime
def test_a_damaged_kernel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.spv").write_bytes(b"no SPIR-V")
    monkeypatch.setattr(opencl, "KERNELS", tmp_path)
    with pytest.raises(opencl.OpenCLError, match="clCreateProgramWithIL failed"):
        opencl.device(1).kernel("broken", "conv2d_direct")


@needs_runtime
def test_too_large_is_refused() -> None:
    weights = ai3._core.Weights.of([torch.randn(1, 1, 1, 1), None])
    spec = ai3._core.Spec("float32", (1, 1, 1 << 16, 1 << 15))
    problem = ai3._core.problem("conv2d", [spec], weights, {})
    assert "more elements than 2^30" in problem.refusal("sycl direct")
