"""Launches of compiled kernels, with a library in the place of CUDA's driver that writes down what
it is given."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ai3.platforms.cuda.driver import DriverError
from ai3.platforms.cuda.launch import Compiled, _Launch
from test.platforms import stand_in
from test.platforms.stand_in import OnMirror, calls, library


@pytest.fixture
def cuda() -> Iterator[OnMirror]:
    with stand_in.available() as platform:
        yield platform


def made(shared: int = 0) -> Compiled:
    """Of two pointers and three numbers, of which the second is a constant."""
    return Compiled(b"machine code", "kernel", shared, 128, (True, False, True), 2, "")


def launch(cuda: OnMirror, compiled: Compiled, device: int = 1) -> Any:
    library().parameters(b"ppifpp")
    signature = ("*fp32", "*fp32", "i32", "i32", "fp32")
    return _Launch(cuda, device, compiled, (3, 2), 2, signature, (-7, 1, 0.5))


def test_a_kernel_gets_its_parameters_in_their_order(cuda: OnMirror) -> None:
    x, y = torch.zeros(4), torch.zeros(4)
    run = launch(cuda, made())
    assert calls("cuModuleLoadData", "cuModuleGetFunction") == [
        "cuModuleLoadData machine code",
        "cuModuleGetFunction kernel",
    ]
    for a, b in ((x, y), (y, x)):
        library().forget()
        run(a, b)
        addresses = f"{a.data_ptr()} {b.data_ptr()}"
        assert calls() == [f"cuLaunchKernel 8 of 3 2 1 by 128 1 1, 0 on 8: {addresses} -7 0.5 0 0"]


def test_shared_memory_is_asked_for_where_it_is_much(cuda: OnMirror) -> None:
    launch(cuda, made(48 << 10))
    assert not calls("cuFuncSetAttribute")
    launch(cuda, made(64 << 10))
    assert calls("cuFuncSetAttribute") == ["cuFuncSetAttribute 8 8 65536"]


def test_a_module_is_loaded_once_for_a_device(cuda: OnMirror) -> None:
    compiled = made()
    for device in (0, 1, 1, 0):
        launch(cuda, compiled, device)
    assert len(calls("cuModuleLoadData")) == 2


@pytest.mark.parametrize("function", ["cuModuleLoadData", "cuLaunchKernel"])
def test_failures_are_told(cuda: OnMirror, function: str) -> None:
    library().fail(function.encode(), 700)
    with pytest.raises(DriverError, match=f"CUDA: {function} failed: error 700"):
        launch(cuda, made())(torch.zeros(1), torch.zeros(1))


def test_a_thread_without_a_context_gets_torchs(cuda: OnMirror) -> None:
    run, x = launch(cuda, made()), torch.zeros(1)
    library().leave()
    library().forget()
    thread = threading.Thread(target=run, args=(x, x))
    thread.start()
    thread.join()
    assert [line.split()[0] for line in calls()] == ["cuDevicePrimaryCtxRetain", "cuLaunchKernel"]


def test_threads_may_launch_at_once(cuda: OnMirror) -> None:
    run = launch(cuda, made())
    tensors = [(torch.zeros(1), torch.zeros(1)) for _ in range(4)]
    library().forget()
    threads = [threading.Thread(target=lambda t=t: [run(*t) for _ in range(50)]) for t in tensors]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs = {tuple(line.split(": ")[1].split()[:2]) for line in calls("cuLaunchKernel")}
    assert pairs == {(str(a.data_ptr()), str(b.data_ptr())) for a, b in tensors}
