"""A child process that is forked from one which has computed on several threads."""

import multiprocessing
import os
import subprocess
import sys

import pytest

BEGIN = """
import multiprocessing, os, threading
import torch, ai3
from torch import nn

torch.set_num_threads(2)
torch.manual_seed(0)
x = torch.randn(1, 16, 32, 32)

def network():
    return nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3))

def close(actual, wanted):
    torch.testing.assert_close(torch.as_tensor(actual), wanted, rtol=1e-4, atol=1e-4)

def forward(run):
    with torch.no_grad():
        return run(x)

def of_swapped():
    net = network()
    ai3.swap_conv2d(net)
    return lambda: forward(net)

def of_model():
    model = ai3.swap_backend(network())
    return lambda: model(x)

def of_gradient():
    net = network()
    ai3.swap_conv2d(net)
    def run(backward=True):
        images = x.clone().requires_grad_()
        if not backward:  # torch's autograd itself does not live through a fork
            return forward(net)
        net(images).backward(torch.ones(1, 16, 28, 28))
        return images.grad
    return run

def by_fork(child):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

def by_multiprocessing(child):
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
"""


def run(code: str) -> None:
    """Raises where the processes hang."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + code],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    assert process.returncode == 0, errors


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork"
)


@needs_fork
@pytest.mark.parametrize("how", ["by_fork", "by_multiprocessing"])
@pytest.mark.parametrize("what", ["swapped", "model"])
def test_a_child_computes(what: str, how: str) -> None:
    run(f"""
compute = of_{what}()
wanted = torch.as_tensor(compute()).clone()

def child():
    for _ in range(3):
        close(compute(), wanted)
    assert ai3._core.max_threads() == 1
    torch.set_num_threads(2)
    close(compute(), wanted)

{how}(child)
close(compute(), wanted)
assert ai3._core.max_threads() == 2
""")


@needs_fork
@pytest.mark.parametrize("how", ["by_fork", "by_multiprocessing"])
def test_a_child_differentiates(how: str) -> None:
    run(f"""
compute = of_gradient()
compute(backward=False)

def child():
    first = compute().clone()
    close(compute(), first)

{how}(child)
""")


@needs_fork
def test_a_thread_of_the_child_has_threads_of_its_own() -> None:
    run("""
compute = of_swapped()
wanted = compute().clone()

def child():
    found = []
    def work():
        torch.set_num_threads(2)
        found.append((compute(), ai3._core.max_threads()))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    close(found[0][0], wanted)
    assert found[0][1] == 2
    by_fork(lambda: close(compute(), wanted))

by_fork(child)
""")


@needs_fork
@pytest.mark.parametrize("what", ["swapped", "model"])
def test_a_fork_while_another_thread_computes(what: str) -> None:
    run(f"""
compute = of_{what}()
wanted = torch.as_tensor(compute()).clone()
close(wanted, wanted)
stop = threading.Event()

def work():
    while not stop.is_set():
        compute()

thread = threading.Thread(target=work)
thread.start()
try:
    for _ in range(10):
        by_fork(lambda: close(compute(), wanted))
finally:
    stop.set()
    thread.join()
""")
