"""ai3.validate: planted faults are found, what is right passes, lines can be pasted."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ai3
from ai3.commands import main
from ai3.ops import LAYOUTS, ON_CPU
from ai3.validation import shapes, speed, trial, validate

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


pytestmark = pytest.mark.usefixtures("forgotten")


class Convolution:
    """Right, but for what a class derived from it makes wrong."""

    def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
        kernel, bias = weights[0], weights[1] if p.has_bias else None
        windows = np.lib.stride_tricks.sliding_window_view

        def run(inputs: list[Any], output: Any, workspace: Any) -> None:
            pads = ((0, 0), (0, 0), (p.pad_top, p.pad_bottom), (p.pad_left, p.pad_right))
            x = np.pad(inputs[0].reshape(p.N, p.IC, p.IH, p.IW), pads, MODES[self.mode(p)])
            reach = (p.dilation_h * (p.KH - 1) + 1, p.dilation_w * (p.KW - 1) + 1)
            x = windows(x, reach, (2, 3))[:, :, :: p.stride_h, :: p.stride_w]
            x = x[..., :: p.dilation_h, :: p.dilation_w]
            groups = np.split(x, p.groups, 1)
            kernels = np.split(kernel, p.groups)
            y = np.concatenate(
                [
                    np.tensordot(a, b, ((1, 4, 5), (1, 2, 3)))
                    for a, b in zip(groups, kernels, strict=True)
                ],
                -1,
            )
            y = np.moveaxis(y if bias is None else y + bias, -1, 1)
            output[:] = self.changed(p, y, inputs[0], output, workspace).reshape(output.shape)

        return run

    def mode(self, p: Any) -> str:
        return str(p.padding_mode)

    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y


class Tails(Convolution):
    """The last columns beside whole vectors of eight."""

    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        y = y.copy()
        y[..., p.OW // 8 * 8 :] += p.OW > 8
        return y


class Stride(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y * 1.01 if p.stride_w == 2 else y


class Groups(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y[:, ::-1] if p.groups > 1 else y


class Padding(Convolution):
    def mode(self, p: Any) -> str:
        return "zeros"


class Double(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y.astype(np.float32)


class Batch(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y[[0, 0]] if p.N == 2 else y


class Threads(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y + (np.arange(p.OC) == p.OC - 1)[:, None, None] if p.threads == 2 else y


class Beyond(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        element = ctypes.c_float if p.dtype == "float32" else ctypes.c_double
        ctypes.cast(output.ctypes.data + output.nbytes, ctypes.POINTER(element))[0] = 1
        return y


class Stale(Convolution):
    """Sums begin with what is in the workspace."""

    def workspace_bytes(self, p: Any) -> int:
        return int(p.OC * np.dtype(p.dtype).itemsize)

    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return y + workspace.view(p.dtype)[:, None, None]


class LostNaN(Convolution):
    def changed(self, p: Any, y: Any, x: Any, output: Any, workspace: Any) -> Any:
        return np.nan_to_num(y, nan=0.0, posinf=np.inf, neginf=-np.inf)


class NotDense(Convolution):
    """What was computed of an array is taken for that of any other in the same memory, as a copy
    of one that is not dense is."""

    def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
        run, kept = super().plan(p, weights), {}

        def remembers(inputs: list[Any], output: Any, workspace: Any) -> None:
            place = inputs[0].ctypes.data
            if place not in kept:
                run(inputs, output, workspace)
                kept[place] = output.copy()
            output[:] = kept[place]

        return remembers


class Empty(Convolution):
    def refusal(self, p: Any) -> str | None:
        return ctypes.string_at(0) and None if p.N == 0 else None


WRONG = "gives wrong results"
FAULTS = {
    Tails: WRONG,
    Stride: WRONG,
    Groups: WRONG,
    Padding: WRONG,
    Double: WRONG,
    Batch: WRONG,
    Threads: WRONG,
    Beyond: "writes out of bounds",
    Stale: "depends on what its memory held",
    LostNaN: "loses NaN or infinity",
    NotDense: WRONG,
    Empty: "crashes",
}


def tried(algorithm: type, **how: Any) -> Any:
    ai3.algorithm("conv2d", "mine")(algorithm)
    return validate.validate("conv2d", "mine", **how)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: type) -> None:
    found = tried(fault, examples=40, most=500)
    assert not found.ok
    kinds = {one.kind: one for one in found.faults}
    one = kinds[FAULTS[fault]]
    assert found.wrong == sum(other.count for other in found.faults)
    assert one.trial.case.elements <= (12 if fault is not Tails else 60)
    assert str(found).count(one.kind) and max(map(len, str(found).splitlines())) <= 80
    # Its line does it again.
    assert one.line.startswith("ai3.check('conv2d', 'mine', inputs=")
    with pytest.raises(ai3.errors.WrongResultError, match=one.kind) as caught:
        eval(one.line)
    assert caught.value.kind == one.kind


def test_what_is_right_passes() -> None:
    found = tried(Convolution, examples=40, most=500)
    assert found.ok and not found.wrong and not found.faults and not found.refused
    assert set(found.errors) == {"float32", "float64"} and found.layouts == {"dense": found.right}
    for errors in found.errors.values():
        assert 0 < errors.median <= errors.largest < 8 and errors.direct_median > 0
    # In the process of its own there are as many threads as are asked for.
    assert found.threads == {count: count for count in validate.THREADS} and len(found.threads) == 3
    text = str(found)
    assert "conv2d 'mine': right" in text and "right in layouts: dense" in text
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(found.json())["ok"] is True


def test_refusals_are_counted() -> None:
    class Winograd(Convolution):
        def refusal(self, p: Any) -> str | None:
            if p.groups > 1:
                return "it has groups"
            return None if (p.KH, p.KW) == (3, 3) else f"the kernel is {p.KH}x{p.KW}, not 3x3"

    found = tried(Winograd, examples=40, most=500)
    assert found.ok and found.refused == sum(found.refusals.values()) > 100
    assert set(found.refusals) == {"it has groups", "the kernel is #x#, not #x#"}
    assert "the kernel is #x#, not #x#" in str(found)

    class Nothing(Convolution):
        def refusal(self, p: Any) -> str:
            return "never"

    found = tried(Nothing, most=20)
    assert not found.ok and not found.wrong and "nothing of it was tried" in str(found)


@pytest.mark.parametrize(
    ("end", "kind", "why"),
    [
        (lambda: ctypes.string_at(0), "crashes", "SIGSEGV"),
        (os.abort, "crashes", "SIGABRT"),
        (lambda: os._exit(3), "ends the process", "status 3"),
        (lambda: time.sleep(60), "does not end", "after 1 s"),
        (lambda: 1 / 0, "raises an exception", "ZeroDivisionError"),
        (sys.exit, "raises an exception", "SystemExit"),
    ],
)
def test_what_ends_a_process_is_found_and_the_rest_is_tried(
    end: Callable[[], Any], kind: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends(Convolution):
        def changed(self, p: Any, y: Any, *_: Any) -> Any:
            if (p.KH, p.KW) == (1, 3):
                end()
            return y

    monkeypatch.setattr(validate, "TRIAL_SECONDS", 1)
    monkeypatch.setattr(validate, "SHRINK_SECONDS", 2)
    found = tried(Ends, examples=10, most=300)
    (fault,) = found.faults
    assert fault.kind == kind and why in fault.why and found.right > 50
    (weight, _) = fault.trial.case.weights
    assert weight[2:] == (1, 3)


def test_the_memory_of_inputs_and_weights() -> None:
    class Writes(Convolution):
        def plan(self, p: Any, weights: list[Any]) -> Callable[..., None]:
            run = super().plan(p, weights)

            def writes(inputs: list[Any], output: Any, workspace: Any) -> None:
                run(inputs, output, workspace)
                array = self.chosen(inputs, weights)
                if array is not None:
                    ctypes.memset(array.ctypes.data, 0x11, 4)

            return writes

    for chosen, kind in (
        (lambda self, inputs, weights: inputs[0], "writes an input"),
        (lambda self, inputs, weights: weights[0], "writes a weight"),
    ):
        Writes.chosen = chosen
        found = tried(Writes, examples=10, most=60)
        assert kind in {fault.kind for fault in found.faults}


@pytest.mark.parametrize("op", [op for op in ON_CPU if "conv2d" not in op])
def test_every_operation(op: str) -> None:
    found = validate.validate(op, "direct", examples=100, most=200)
    assert not found.wrong and found.right > 2, str(found)


@pytest.mark.parametrize("op", ["relu", "linear", "softmax", "recurrence", "scatter", "concat"])
def test_faults_of_other_operations(op: str) -> None:
    """What gives zeros is wrong everywhere but where zeros are right."""
    ai3.algorithm(op, "zeros")(lambda problem, *arrays: arrays[-1].fill(0))
    found = ai3.validate(op, "zeros", seconds=2, examples=20)
    kinds = {fault.kind: fault for fault in found.faults}
    assert not found.ok and "gives wrong results" in kinds
    with pytest.raises(ai3.errors.WrongResultError):
        eval(kinds["gives wrong results"].line)


def test_check() -> None:
    ai3.algorithm("conv2d", "mine")(Stride)
    shapes = {"inputs": [(1, 2, 5, 5)], "weights": [(3, 2, 3, 3), None]}
    outcome = ai3.check("conv2d", "mine", **shapes, padding=1)
    assert outcome.status == "right" and repr(outcome).startswith("right, its error ")
    for isolated in (True, False):
        with pytest.raises(
            ai3.errors.WrongResultError, match=r"the element \(.*\) is .* instead of"
        ):
            ai3.check("conv2d", "mine", **shapes, stride=2, isolated=isolated)
    refused = ai3.check("conv2d", "winograd", **shapes, stride=2)
    assert refused.status == "refused" and "stride" in refused.why
    assert ai3.check("conv2d", "mine", **shapes, stride=2, tolerance=1e9).status == "right"
    for wrong, match in (
        ({"dtype": "float16"}, "dtype: 'float16' is unknown.*'float32'"),
        ({"input_layout": "nhwc"}, "input_layout"),
        ({"strides": "none"}, "strides"),
        ({"values": "nan"}, "values"),
        ({"padding": -1}, "must not be negative"),
    ):
        with pytest.raises(ValueError, match=match):
            ai3.check("conv2d", "mine", **shapes, **wrong)


def test_names_that_are_unknown() -> None:
    with pytest.raises(ValueError, match=r"operation: 'conv2b' is unknown, did you mean 'conv2d'"):
        ai3.validate("conv2b", "direct")
    with pytest.raises(ValueError, match=r"algorithm of conv2d: 'dirct'.*'direct'"):
        ai3.validate("conv2d", "dirct")
    with pytest.raises(ValueError, match=r"set of conv2d: 'resnet19'.*'resnet18'"):
        ai3.validate("conv2d", "direct", bench=["resnet19"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_are_what_the_core_has(dtype: str) -> None:
    x = np.arange(2 * 19 * 3 * 5, dtype=dtype).reshape(2, 19, 3, 5)
    for layout in LAYOUTS:
        ai3.check("reorder", "direct", [x.shape], dtype=dtype, layout=layout)


RELU = """
#include "ops/relu/op.hpp"
namespace ai3::custom {
template <typename T>
void relu(const Relu& p, const T* input, T* output) {
    parallel_for(p.threads, elements(p.shape), [&](Index i, int) {
        output[i FAULT] = input[i] < 0 ? T(0) : input[i];
    });
}
}
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ai3", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI3_CACHE_DIR", str(tmp_path / "cache"))
    few = ("--examples", 30, "--seconds", 5)
    path = tmp_path / "rectify.cpp"
    # Wrong by one element: its line says it again, in a process that never heard of the file.
    path.write_text(RELU.replace("FAULT", "+ 1"))
    ran = command("validate", path, "--op", "relu", "--json", tmp_path / "b.json", *few)
    assert ran.returncode == 1 and "it writes out of bounds" in ran.stdout
    said = ran.stdout.partition("it writes out of bounds")[2]
    line = said[said.index("ai3.check(") :].partition(")\n")[0] + ")"
    pasted = subprocess.run(
        [sys.executable, "-c", f"import ai3\n{line}"], capture_output=True, text=True
    )
    assert pasted.returncode == 1
    assert "WrongResultError: 'rectify' of relu writes out of bounds: byte" in pasted.stderr
    figures = json.loads((tmp_path / "b.json").read_text())
    assert figures["ok"] is False and figures["faults"][0]["line"].startswith("ai3.check('relu'")
    path.write_text(RELU.replace("FAULT", "+ nothing"))
    ran = command("validate", path, "--op", "relu")
    assert ran.returncode == 2 and "rectify.cpp:7" in ran.stderr and "Traceback" not in ran.stderr


def test_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    own = [shapes.Conv(3, 20, 20, 8, 3, 3, padding=1), shapes.Conv(4, 9, 9, 4, 3, 3, 2, groups=2)]
    monkeypatch.setattr(shapes, "load", lambda: {"own": shapes.ShapeSet(2, tuple(own))})
    found = validate.validate("conv2d", "winograd f2", most=9, bench=["own"])
    (one,) = found.speeds
    assert (one.group, one.case, one.flops) == ("own", "3@20 8 3x3", 2 * 2 * 400 * 8 * 27)
    assert next(iter(one.seconds)) == "winograd f2" and {"direct", "gemm"} < set(one.seconds)
    assert one.ratio == one.seconds[one.best] / one.seconds["winograd f2"]
    assert "3@20 8 3x3" in str(found) and "own: " in str(found)
    found.chart(tmp_path / "own.png")
    assert (tmp_path / "own.png").read_bytes().startswith(b"\x89PNG")
    wrong = tried(Padding, examples=40, most=500, bench=["own"])
    assert not wrong.speeds
    with pytest.raises(ValueError, match="no speeds were measured"):
        wrong.chart(tmp_path / "wrong.png")


def test_the_command_on_python_files_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--examples", "10", "--seconds", "2"]
    path = tmp_path / "own.py"
    path.write_text(
        'import ai3\n@ai3.algorithm("relu", "ours")\ndef ours(problem, x, y): y[:] = abs(x)\n'
    )
    assert main(["validate", str(path), "--op", "relu", *few]) == 1
    said = capsys.readouterr().out
    assert "relu 'ours': wrong" in said and f"file={str(path)!r}" in said
    png = tmp_path / "a.png"
    assert main(["validate", "direct", "--op", "flatten", *few, "--bench", "--png", str(png)]) == 0
    assert "flatten 'direct': right" in capsys.readouterr().out
    for given, why in (
        (("direct", "--op", "reluu"), "did you mean 'relu'"),
        (("dirct", "--op", "relu"), "did you mean 'direct'"),
        ((str(path), "--op", "conv2d"), "own.py adds no algorithm of conv2d: name one"),
        (("nowhere.cpp", "--op", "relu"), "nowhere.cpp"),
        (("nowhere.py", "--op", "relu"), "nowhere.py"),
        (("direct", "--op", "relu", "--bench", "resnet18"), "set of relu: 'resnet18' is unknown"),
    ):
        assert main(["validate", *given]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("algorithm", ON_CPU["conv2d"])
def test_convolutions_take_at_most_two_minutes(algorithm: str) -> None:
    start = time.monotonic()
    found = ai3.validate("conv2d", algorithm)
    assert found.ok and not found.unfinished, str(found)
    assert time.monotonic() - start < 120


def test_after_threads_have_run_here() -> None:
    """Of torch and of ai3, in a program that is no file; its child computes on as many again."""
    code = (
        "import torch, ai3\n"
        "torch.set_num_threads(2)\n"
        "x = torch.randn(64, 512) @ torch.randn(512, 512)\n"
        "ai3.layers.Linear(torch.randn(512, 512))(x)\n"
        "@ai3.algorithm('linear', 'mine', arrays='torch')\n"
        "def mine(problem, x, weight, bias, output):\n"
        "    output.copy_(torch.nn.functional.linear(x, weight, bias))\n"
        "found = ai3.validate('linear', 'mine', examples=100)\n"
        "print(found.ok, found.threads == {n: n for n in found.threads}, len(found.threads))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout.split() == ["True", "True", "3"], ran.stdout + ran.stderr
    assert not ran.stderr


def test_faults_of_the_trial_are_not_the_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise LookupError("no reference")

    monkeypatch.setattr(trial, "_reference", fails)
    with pytest.raises(LookupError, match="no reference"):
        tried(Convolution)
