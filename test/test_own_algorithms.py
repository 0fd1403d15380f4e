"""What the documentation says of own algorithms, its examples, the plugin and the command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
CHAPTER = (ROOT / "docs/algorithms.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", CHAPTER, re.DOTALL)


def run(*command: Any, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("block", blocks("python"), ids=lambda text: text.count("\n"))
def test_python_of_the_chapter(block: str, tmp_path: Path) -> None:
    path = tmp_path / "pasted.py"
    path.write_text(block)
    run(path)


def test_cpp_of_the_chapter(tmp_path: Path) -> None:
    """Against torch over what a convolution can be."""
    said, text = blocks("cpp")
    path = tmp_path / "tiled.cpp"
    path.write_text(text)
    wary = tmp_path / "wary.cpp"
    begin = "namespace ai3::custom {"
    wary.write_text(text.replace(begin, begin + said))
    check = tmp_path / "check.py"
    check.write_text(
        "import itertools, torch, ai3\n"
        f"assert ai3.load_algorithm({str(path)!r}, op='conv2d') == 'tiled'\n"
        f"ai3.load_algorithm({str(wary)!r}, op='conv2d')\n"
        "try: ai3.swap_conv2d(torch.nn.Conv2d(4, 4, 3, groups=2), 'wary')\n"
        "except ai3.errors.UnsupportedAlgorithmError as error: assert 'has groups' in str(error)\n"
        "else: raise AssertionError('it was not refused')\n"
        "for stride, dilation, groups, mode, kernel, dtype in itertools.product(\n"
        "    (1, 2), (1, 2), (1, 2), ('zeros', 'reflect', 'circular'), (1, 3, (2, 3)),\n"
        "    (torch.float32, torch.float64)):\n"
        "    conv = torch.nn.Conv2d(6, 14, kernel, stride, 1, dilation, groups,\n"
        "                           padding_mode=mode, dtype=dtype)\n"
        "    x = torch.randn(2, 6, 11, 37, dtype=dtype)\n"
        "    with torch.no_grad():\n"
        "        expected = conv(x)\n"
        "        ai3.swap_conv2d(conv, 'tiled')\n"
        "        torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)\n"
    )
    run(check, AI3_CACHE_DIR=str(tmp_path / "cache"))


def test_idea_to_table() -> None:
    table = run("-m", "example.new_algorithm", COLUMNS="120")
    assert table.count("tap by") == 5 and "linear" in table


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugin is installed, beside one that cannot be imported."""
    folder = tmp_path_factory.mktemp("plugin") / "site"
    pip = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    # Of a copy, as setuptools builds where the sources are, and other processes do so too.
    source = shutil.copytree(ROOT / "example/plugin", folder.parent / "source")
    run(*pip, folder, source)
    broken = folder / "broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[ai3.algorithms]\nlost = no_such_module\n")
    return folder


def test_a_package_brings_its_own(site: Path) -> None:
    code = (
        "import ai3, torch; layer, x = torch.nn.Linear(5, 3), torch.randn(2, 4, 5)\n"
        "model = ai3.swap_backend(layer, {'linear': 'einsum'})\n"
        "torch.testing.assert_close(torch.as_tensor(model(x)), layer(x).detach())\n"
        "print([n.algorithm for n in model.profile(x)])"
    )
    own = {**os.environ, "PYTHONPATH": str(site)}
    ran = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True)
    assert ran.stdout.strip() == "['einsum']", ran.stderr
    # One that fails is told of, once, and stops nothing.
    assert ran.stderr.count("were not loaded") == 1
    assert "lost of no_such_module" in ran.stderr


def test_the_command_lists_them(site: Path) -> None:
    listed = run("-m", "ai3", "algorithms", "linear", PYTHONPATH=str(site), COLUMNS="80")
    assert all(name in listed for name in ("direct", "strassen", "direct bf16", "cublas"))
    assert "einsum" in listed and "ai3_plugin_example.py" in "".join(listed.split())
    assert max(map(len, listed.splitlines())) <= 80
    everything = run("-m", "ai3", "algorithms")
    assert "winograd f4" in everything and "softmax" in everything
    wrong = subprocess.run(
        [sys.executable, "-m", "ai3", "algorithms", "conv9"], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "no operation 'conv9'" in wrong.stderr
