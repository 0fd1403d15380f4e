"""`./run`, the suites that `python -m` starts, and what the networks need."""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load_run() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


class TestRun:
    @pytest.mark.parametrize(
        "command, module",
        [
            ("demo", "example.demo"),
            ("test", "test"),
            ("utest", "test.unit"),
            ("utest.conv2d", "test.unit.conv2d"),
            ("test.unit", "test.unit"),
            ("test.unit.conv2d", "test.unit.conv2d"),
            ("sctest", "test.swap_conv2d"),
            ("sctest.vgg16", "test.swap_conv2d.vgg16"),
            ("test.swap_conv2d.vgg16", "test.swap_conv2d.vgg16"),
            ("sbtest.vgg16", "test.swap_backend.vgg16"),
            ("test.swap_backend", "test.swap_backend"),
            ("lbench", "bench.layers"),
            ("lbench.conv2d", "bench.layers.conv2d"),
            ("bench.layers.conv2d", "bench.layers.conv2d"),
            ("scbench.vgg16", "bench.swap_conv2d.vgg16"),
            ("bench.swap_backend", "bench.swap_backend"),
            ("sbbench", "bench.swap_backend"),
            ("utests", None),
            ("test.unity", None),
        ],
    )
    def test_command_to_module(self, command: str, module: str | None) -> None:
        assert load_run().module_of(command) == module

    def test_alone_prints_one_screen(self) -> None:
        shown = python("run")
        assert shown.returncode == 0
        lines = shown.stdout.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 100
        for command in (*load_run().SUITES, *load_run().COMMANDS, "demo", "test"):
            assert any(line.lstrip().startswith(command) for line in lines), command

    def test_unknown_command(self) -> None:
        refused = python("run", "sctset")
        assert refused.returncode == 2
        assert "did you mean 'sctest'?" in refused.stderr

    def test_sanitizers_keep_given_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TSAN_OPTIONS", "verbosity=1")
        environment = load_run().sanitizer_environment(["thread"], ["site", "packages"])
        assert "halt_on_error=1:verbosity=1" in environment["TSAN_OPTIONS"]
        assert environment["PYTHONPATH"] == f"site{os.pathsep}packages"
        assert "libtsan.so" in environment["LD_PRELOAD"]

    def test_failed_step_shows_everything(self, capfd: pytest.CaptureFixture[str]) -> None:
        command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
        with pytest.raises(SystemExit) as stopped:
            load_run().step("trying", command)
        assert stopped.value.code == 3
        assert "the reason" in capfd.readouterr().err


class TestSetup:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """The script over a small project, its steps noted in `run.steps` instead of taken."""
        run = load_run()
        for name in ("pyproject.toml", "CMakeLists.txt", "src/ai3/csrc/a.cpp", "src/ai3/b.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("before")
        run.ROOT, run.VENV = tmp_path, tmp_path / ".venv"
        run.STAMP, run.PYTHON = run.VENV / "setup.json", run.VENV / "python"
        run.steps = []

        def step(title: str, command: list[str]) -> None:
            run.steps.append(title)
            run.VENV.mkdir(exist_ok=True)
            run.PYTHON.touch()

        run.step = step
        return run

    def again(self, run: ModuleType) -> list[str]:
        run.steps.clear()
        assert run.setup() == bool(run.steps)
        return list(run.steps)

    EVERYTHING = ("checking pip", "installing dependencies", "building ai3")

    def test_once_is_enough(self, run: ModuleType) -> None:
        assert self.again(run) == ["making .venv", *self.EVERYTHING]
        assert self.again(run) == []

    @pytest.mark.parametrize(
        "file, steps",
        [
            ("pyproject.toml", EVERYTHING),
            ("CMakeLists.txt", ("building ai3",)),
            ("src/ai3/csrc/a.cpp", ("building ai3",)),
            ("src/ai3/custom/new.hpp", ("building ai3",)),
            ("src/ai3/b.py", ()),
            ("src/ai3/new.py", ("building ai3",)),
        ],
    )
    def test_does_what_a_change_needs(
        self, run: ModuleType, file: str, steps: tuple[str, ...]
    ) -> None:
        self.again(run)
        (run.ROOT / file).parent.mkdir(exist_ok=True)
        (run.ROOT / file).write_text("after")
        assert self.again(run) == list(steps)
        assert self.again(run) == []

    def test_failure_is_not_taken_for_done(self, run: ModuleType) -> None:
        self.again(run)
        (run.ROOT / "CMakeLists.txt").write_text("broken")
        noting = run.step

        def failing(title: str, command: list[str]) -> None:
            sys.exit(1)

        run.step = failing
        with pytest.raises(SystemExit):
            run.setup()
        run.step = noting
        assert "building ai3" in self.again(run)

    def test_no_compiler(self, run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(SystemExit, match=r"no C\+\+ compiler found"):
            run.setup()
        monkeypatch.setenv("CXX", f"{sys.executable} -flag")
        assert self.again(run)

    def test_old_python(self, run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
        with pytest.raises(SystemExit, match=r"needs Python 3\.10 or newer, this is 3\.9\.18"):
            run.setup()


class TestSuites:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """A project with this one's machinery and two unit tests of its own."""
        for file in ("test/__init__.py", "runners/__init__.py", "runners/suite.py"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / file, tmp_path / file)
        unit = tmp_path / "test/unit"
        unit.mkdir()
        (unit / "__init__.py").touch()
        (unit / "test_good.py").write_text("def test_it():\n    assert True\n")
        (unit / "test_bad.py").write_text("def test_it():\n    assert False\n")
        return tmp_path

    @pytest.mark.parametrize(
        "module, status, summary",
        [
            ("test", 1, "1 failed, 1 passed"),
            ("test.unit", 1, "1 failed, 1 passed"),
            ("test.unit.good", 0, "1 passed"),
            ("test.unit.bad", 1, "1 failed"),
        ],
    )
    def test_exit_status(self, project: Path, module: str, status: int, summary: str) -> None:
        ran = python("-m", module, cwd=project)
        assert ran.returncode == status, ran.stdout + ran.stderr
        assert summary in ran.stdout

    def test_arguments_reach_pytest(self, project: Path) -> None:
        ran = python("-m", "test.unit", "-k", "nothing_has_this_name", cwd=project)
        assert ran.returncode == 5

    def test_unknown_name(self, project: Path) -> None:
        ran = python("-m", "test.unit.goood", cwd=project)
        assert ran.returncode == 1
        assert ran.stderr == ("test.unit has no 'goood'; did you mean 'good'?\nIt has: bad, good\n")

    def test_names_are_no_modules(self, project: Path) -> None:
        ran = python("-c", "import test.unit.good", cwd=project)
        assert "ImportError: test.unit.good is to be run" in ran.stderr

    @pytest.mark.parametrize("suite", ["test.swap_conv2d", "test.swap_backend"])
    def test_networks_are_names(self, suite: str) -> None:
        ran = python("-m", f"{suite}.vgg17")
        assert ran.returncode == 1
        assert "did you mean 'vgg16'?" in ran.stderr


class TestVision:
    """In a process of its own, as an import of torchvision cannot be taken back."""

    def outcome(self, load_library: str) -> str:
        ran = python(
            "-c",
            f"import torch\n{load_library}\ntorch.ops.load_library = load_library\n"
            "from runners import vision\n"
            "assert vision.models.resnet18 and vision.transforms\n"
            "print('defined' if hasattr(vision, '_schemas') else 'left alone')\n",
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def test_operators_that_cannot_be_loaded(self) -> None:
        cannot = "def load_library(path): raise OSError('no libcudart')"
        assert self.outcome(cannot) == "defined"

    def test_healthy_one_is_left_alone(self) -> None:
        # the first call succeeds and stands for a library with the two operators that matter;
        # the second is torchvision's own, which would expect all the others too
        can = """
libraries = []
def load_library(path):
    if libraries:
        raise OSError('once is enough')
    libraries.append(torch.library.Library("torchvision", "FRAGMENT"))
    for name in ("nms", "qnms"):
        libraries[0].define(name + "(Tensor dets, Tensor scores, float threshold) -> Tensor")
"""
        assert self.outcome(can) == "left alone"
