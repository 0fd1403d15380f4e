"""The formatters, linters and type checker find nothing to say."""

import subprocess
import sys
from pathlib import Path

import pytest

from test.test_tooling import load_run

ROOT = Path(__file__).parent.parent
CHECKS = [*load_run().format_commands(check=True), [sys.executable, "-m", "mypy"]]


def name_of(command: list[str]) -> str:
    return "mypy" if "mypy" in command else f"{Path(command[0]).name} {command[1].strip('-')}"


@pytest.mark.parametrize("command", CHECKS, ids=name_of)
def test_nothing_to_say(command: list[str]) -> None:
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
