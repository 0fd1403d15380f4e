"""Our kernels compiled for GPUs that are not here: what they take of registers and memory, and
whether they are launched with the parameters that they have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
CAPABILITIES = (80, 90)


def check(*arguments: object) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "test.platforms.compile_kernels", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert len({name.partition(":")[0] for name in found}) >= 4
    for name, usage in found.items():
        assert usage["launched right"], name
        # Programs of single elements wait for memory; some functions of CUDA's own use a little.
        assert usage["spilled"] <= 64 * name.startswith("pointwise"), (name, usage)
        # Two blocks of a multiprocessor's 164 KB of sm_80.
        assert usage["registers"] <= 255 and usage["shared"] <= 82_000, (name, usage)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_nothing_is_spilled(capability: int) -> None:
    check(capability)


@pytest.mark.thorough
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_nothing_of_any_kernel_is_spilled(capability: int) -> None:
    check(capability, "--all")
