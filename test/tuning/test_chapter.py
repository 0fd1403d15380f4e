"""The examples of docs/tuning.md, each in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = (Path(__file__).parents[2] / "docs/tuning.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_python_of_the_chapter(block: int, tmp_path: Path) -> None:
    path = tmp_path / "pasted.py"
    # What it measures does not matter here.
    path.write_text(re.sub(r"seconds=\d+", "seconds=1", BLOCKS[block]))
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0, ran.stdout + ran.stderr
