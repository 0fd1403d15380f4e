"""The program `ai3`: what it prints, writes and exits with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ai3
from ai3.commands import main
from ai3.tuning import database
from runners import vision

ROOT = Path(__file__).parent.parent
MAKER = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def with_input():
    return make(), torch.randn(2, 3, 8, 8)


def number():
    return 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_networks.py").write_text(MAKER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_networks", None)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: object, exits: int = 0) -> str:
    """What the program printed; on standard error where it was misused."""
    code = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    assert code == exits, (out, err)
    return err if exits == 2 else out


def saved(path: Path) -> Path:
    import own_networks  # type: ignore[import-not-found]

    ai3.swap_backend(own_networks.make(), {"conv2d": "smm"}).save(path)
    return path


COMMANDS = (
    *("platforms", "algorithms", "bench", "explain", "tune", "compare", "cache", "validate"),
    *(f"cache {name}" for name in ("info", "path", "clear", "export", "import")),
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *command.split(), "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.replace("ARGS]...", "").replace(
        "conv2d, ...", ""
    )  # nothing that is told of a command is cut
    if not command:
        assert all(name in text for name in COMMANDS if " " not in name)
    elif command != "cache":
        assert "--json" in text


def test_without_a_command_it_helps() -> None:
    ran = subprocess.run([sys.executable, "-m", "ai3"], capture_output=True, text=True)
    assert ran.returncode == 2 and "explain" in ran.stdout + ran.stderr


def test_import_of_ai3_needs_none_of_it() -> None:
    code = "import ai3, sys; print([m for m in ('typer', 'rich', 'torch') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_algorithms(capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(capsys, "algorithms")
    assert all(op in listed for op in ai3.SUPPORTED_ALGORITHMS)
    assert max(map(len, listed.splitlines())) <= 80
    rows = json.loads(said(capsys, "algorithms", "conv2d", "--json"))
    assert [row["algorithm"] for row in rows] == ai3.SUPPORTED_ALGORITHMS["conv2d"]
    assert {row["operation"] for row in rows} == {"conv2d"}
    wrong = said(capsys, "algorithms", "conv9d", exits=2)
    assert "there is no operation 'conv9d', did you mean 'conv2d'?" in wrong


def test_platforms(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(capsys, "platforms", "--json"))
    assert rows[0] == {"name": "cpu", "available": True, "reason": ""}
    assert [row["name"] for row in rows] == [row.name for row in ai3.platforms()]
    text = said(capsys, "platforms")
    for row in rows:
        assert row["name"] in text and (row["available"] or row["reason"].split()[0] in text)
    assert max(map(len, text.splitlines())) <= 80


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "bench", "own_networks:with_input", "--seconds", "0.01")
    assert "own_networks:with_input, 2x3x8x8" in text and "convolutions swapped" in text
    assert max(map(len, text.splitlines())) <= 80
    given = ("own_networks:make", "--shape", "4x3x8x8", "--algorithm", "conv2d=smm", "--json")
    document = json.loads(said(capsys, "bench", *given, "--seconds", "0.01"))
    assert document["shapes"] == ["4x3x8x8"]
    assert [row["side"] for row in document["sides"]] == ["torch", "convolutions swapped", "ai3"]
    assert all(row["ms"] > 0 and row["difference"] < 1e-5 for row in document["sides"])
    assert document["sides"][0]["speed"] == 1


def test_a_plan_is_run(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    import own_networks

    network, x = own_networks.with_input()
    plan = here / "gemm.json"
    ai3.swap_backend(network, {"conv2d": "gemm"}).plan(x).save(plan)
    name, shape = "own_networks:with_input", ("--shape", "2x3x8x8")
    for given in ((name,), (name, "--in-place"), (saved(here / "saved.ai3"), *shape)):
        text = said(capsys, "explain", *given, "--plan", plan, "--json", "--no-errors")
        layers = json.loads(text)["layers"]
        assert [layer["algorithm"] for layer in layers if layer["op"] == "conv2d"] == ["gemm"]
    quick = ("--seconds", "0.01", "--json")
    sides = json.loads(said(capsys, "bench", name, "--plan", plan, *quick))["sides"]
    assert len(sides) == 3 and all(side["difference"] < 1e-5 for side in sides)
    for command in ("bench", "explain"):
        both = ("--plan", plan, "--algorithm", "conv2d=direct")
        assert "--plan says it all" in said(capsys, command, name, *both, exits=2)
        assert "none.json" in said(capsys, command, name, "--plan", "none.json", exits=2)


@pytest.fixture
def cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own."""
    monkeypatch.setenv("AI3_CACHE_DIR", str(here / "cache"))
    database.renew()
    yield here / "cache"
    database.session.clear()
    monkeypatch.undo()
    database.renew()


def test_tune_and_what_is_kept(capsys: pytest.CaptureFixture[str], here: Path, cache: Path) -> None:
    assert "0 measured times" in said(capsys, "cache", "info")
    assert said(capsys, "cache", "path").strip() == str(cache)
    assert "nothing was measured yet" in said(capsys, "cache", "export", "a", exits=2)
    given = ("own_networks:with_input", "--seconds", "2", "--plan", here / "a.json")
    text = said(capsys, "tune", *given)
    assert "tuned in" in text and "conv2d by" in text
    assert ai3.load_plan(here / "a.json").nodes
    document = json.loads(said(capsys, "tune", *given[:3], "--json"))
    assert document["known"] > 0 and document["error"] is None
    within = json.loads(said(capsys, "tune", *given[:3], "--json", "--accuracy", "1e-2"))
    assert within["error"] < 1e-2
    assert [node["operation"] for node in document["nodes"]].count("conv2d") == 1
    # It is kept, and explained by.
    info = json.loads(said(capsys, "cache", "info", "--json"))
    assert info["folder"] == str(cache)
    (machine,) = info["machines"]
    assert machine["here"] and machine["problems"] >= 1 and machine["times"] > 3
    explained = json.loads(said(capsys, "explain", given[0], "--json", "--no-errors"))
    sources = {a["source"] for a in explained["layers"][0]["alternatives"] if a["ms"]}
    assert "measured" in sources
    assert "was measured to take least" in explained["layers"][0]["why"]
    # It travels, and is forgotten.
    count = json.loads(said(capsys, "cache", "export", "times", "--json"))["measured"]
    assert count == machine["times"]
    assert "is removed" in said(capsys, "cache", "clear")
    assert "0 measured times" in said(capsys, "cache", "info")
    assert f"{count} measured times of times are of use here" in said(
        capsys, "cache", "import", "times"
    )
    (again,) = json.loads(said(capsys, "cache", "info", "--json"))["machines"]
    assert again["times"] == count and again["here"]
    (here / "own").write_text("x")
    assert "own holds no measured times" in said(capsys, "cache", "import", "own", exits=2)
    wrong = said(capsys, "tune", *given[:3], "--memory", "lots", exits=2)
    assert "memory is a number of bytes" in wrong
    wrong = said(capsys, "tune", *given[:3], "--memory", "10", exits=2)
    assert "memory=10 bytes cannot be kept" in wrong


def test_compare(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    import own_networks

    x = torch.randn(2, 3, 8, 8)
    for name, algorithm in {"a": "smm", "b": "gemm"}.items():
        model = ai3.swap_backend(own_networks.make(), {"conv2d": algorithm})
        model.plan(x).save(here / name)
    same = said(capsys, "compare", "a", "a")
    assert "0 of " in same and "nodes differ" in same
    text = said(capsys, "compare", "a", "b", exits=1)
    assert "1 of " in text and "smm" in text and "gemm" in text
    assert max(map(len, text.splitlines())) <= 80
    document = json.loads(said(capsys, "compare", "a", "b", "--json", exits=1))
    (difference,) = [d for d in document["differences"] if d["what"] == "algorithm"]
    assert (difference["before"], difference["after"]) == ("smm", "gemm")
    (here / "c").write_text("{}")
    assert "c is no plan" in said(capsys, "compare", "a", "c", exits=2)
    assert "nowhere" in said(capsys, "compare", "a", "nowhere", exits=2)


def test_explain(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    given = ("own_networks:make", "--shape", "2x3x8x8", "--algorithm", "conv2d=smm")
    wrote = ("--html", here / "a.html", "--png", here / "a.png")
    text = said(capsys, "explain", *given, *wrote, "--repeat", "1")
    assert "own_networks:make, 2x3x8x8" in text and "smm" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("wrote")) <= 80
    assert (here / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "own_networks:make, 2x3x8x8" in (here / "a.html").read_text()
    document = json.loads(said(capsys, "explain", *given, "--json", "--no-errors"))
    assert document["layers"][0]["algorithm"] == "smm" and document["error"] is None
    detail = said(capsys, "explain", *given, "--layer", "0")
    assert "0: conv2d by 'smm'" in detail and "gemm" in detail
    own = said(capsys, "explain", *given, "--in-place")
    assert "conv2d" in own and "linear" not in own


def test_saved_models(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    path = saved(here / "own.ai3")
    document = json.loads(said(capsys, "explain", path, "--shape", "2x3x8x8", "--json"))
    assert document["layers"][0]["algorithm"] == "smm"
    document = json.loads(
        said(capsys, "bench", path, "--shape", "2x3x8x8", "--json", "--seconds", "0.01")
    )
    assert [row["side"] for row in document["sides"]] == ["ai3"]
    wrong = said(capsys, "explain", path, exits=2)
    assert "say it with --shape" in wrong
    wrong = said(capsys, "explain", path, "--shape", "2x3x8x8", "--in-place", exits=2)
    assert "--in-place is for networks of torch" in wrong
    path.write_bytes(path.read_bytes()[:100])
    assert "cannot be loaded" in said(capsys, "explain", path, "--shape", "2x3x8x8", exits=2)


def test_names_of_torchvision(capsys: pytest.CaptureFixture[str]) -> None:
    assert vision.models  # which lets torchvision be imported where its operators cannot
    given = ("squeezenet1_1", "--shape", "1x3x64x64", "--no-errors", "--repeat", "1", "--json")
    document = json.loads(said(capsys, "explain", *given))
    assert document["title"] == "squeezenet1_1, 1x3x64x64"
    assert "features.0" in [layer["name"] for layer in document["layers"]]
    wrong = said(capsys, "explain", "squeezenet1_2", exits=2)
    assert "there is no network 'squeezenet1_2'" in wrong and "squeezenet1_1" in wrong
    assert wrong.count("\n") == 1


def test_known_sizes() -> None:
    from ai3.commands import networks

    assert vision.models
    assert networks.load("inception_v3", batch=2).inputs[0].shape == (2, 3, 299, 299)
    pytest.importorskip("timm")
    assert networks.load("timm/resnet10t").inputs[0].shape == (1, 3, 176, 176)


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["explain", "own_networks:make"], "say it with --shape"),
        (["explain", "own_networks:made"], "has no attribute 'made'"),
        (["explain", "own_network:make"], "there is no module 'own_network'"),
        (["explain", "own_networks:number"], "makes a int, not a torch.nn.Module"),
        (["explain", "own_networks.py"], "name the function in it, as own_networks:make"),
        (["explain", "own_networks:make", "--shape", "2by3"], "--shape is numbers"),
        (["explain", "own_networks:make", "--shape", "2x4x8x8"], "does not go through"),
        (["explain", "own_networks:with_input", "--batch", "2"], "brings its own inputs"),
        (["explain", "own_networks:with_input", "--algorithm", "smm"], "OPERATION=NAME"),
        (["explain", "own_networks:with_input", "--algorithm", "conv2d=sm"], "did you mean 'smm'"),
        (["explain", "own_networks:with_input", "--layer", "9"], "layer: '9' is unknown"),
        (["explain", "own_networks:with_input", "--precision", "int4"], "precision must be"),
        (["bench", "own_networks:with_input", "--threads", "0"], "--threads"),
        (["explain"], "NETWORK"),
        (["explian", "resnet18"], "explian"),
        (["explain", "own_networks:with_input", "--html", "no/such/a.html"], "no/such/a.html"),
    ],
)
def test_what_is_asked_wrongly(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, *arguments, exits=2)
    assert why in " ".join(text.replace("│", " ").split()) and "Traceback" not in text


def test_the_environment_of_a_shell(here: Path) -> None:
    """As a user starts it: the folder where he is counts, output is not coloured in a pipe."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-m", "ai3", "explain", "own_networks:with_input", "--repeat", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=here)
    assert ran.returncode == 0, ran.stderr
    assert "\x1b" not in ran.stdout and "own_networks:with_input, 2x3x8x8" in ran.stdout


def test_validation_prints_figures_alone(capsys: pytest.CaptureFixture[str]) -> None:
    few: list[Any] = ["--examples", 5, "--seconds", 2]
    document = json.loads(
        said(capsys, "validate", "direct", "--op", "flatten", "--json", "-", *few)
    )
    assert document["ok"] is True
