"""Measured times on disk: many processes, damage, other machines, what cannot be written."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import ai3
from ai3 import _core
from ai3.tuning import database, whole
from ai3.tuning.database import Machine, Row

WEIGHT = np.random.default_rng(0).standard_normal((16, 16, 3, 3), dtype=np.float32)


def conv(size: int = 20, **attributes: object) -> _core.Problem:
    spec = _core.Spec("float32", (1, 16, size, size))
    return _core.problem("conv2d", [spec], _core.Weights.of([WEIGHT, None]), dict(attributes), 1)


def row(problem: _core.Problem, algorithm: str, seconds: float, **fields: object) -> Row:
    before = _core.estimates_only(True)
    cycles = problem.cost(algorithm)
    _core.estimates_only(before)
    known = cycles if np.isfinite(cycles) else None
    made = Row(problem.key, "apart", algorithm, problem.op, problem.threads, seconds, 9, known)
    return made._replace(**fields)  # type: ignore[arg-type]


def quick(problem: _core.Problem) -> list[Row]:
    """What makes "smm", which nobody would choose by its estimate, the fastest."""
    others = [row(problem, name, 1e-3) for name in ("winograd", "direct", "gemm")]
    return [row(problem, "smm", 1e-6), *others]


def keep(*rows: Row) -> None:
    database.write(rows)
    database.renew()


def test_nothing_is_opened_and_nothing_changes_where_there_is_no_file(cache: Path) -> None:
    problem = conv()
    before = _core.estimates_only(True)
    expected = problem.resolve("default"), problem.resolve("guess"), problem.ranking()
    _core.estimates_only(before)
    assert (problem.resolve("default"), problem.resolve("guess"), problem.ranking()) == expected
    assert not cache.exists()


def test_what_was_measured_is_what_default_and_guess_choose() -> None:
    problem, other = conv(), conv(21)
    usual, elsewhere = problem.resolve("default"), other.resolve("default")
    assert usual != "smm"
    keep(row(problem, "smm", 1e-6), row(problem, usual, 1e-3))
    assert problem.resolve("default") == problem.resolve("guess") == "smm"
    assert problem.ranking()[0][0] == "smm"
    assert problem.cost("smm") / problem.cost(usual) == pytest.approx(1e-3)
    assert problem.cost("default") == problem.cost("smm")
    assert other.resolve("default") == elsewhere
    x = np.ones((1, 16, 20, 20), np.float32)
    assert np.array_equal(problem.run("default", x).numpy(), problem.run("smm", x).numpy())


def test_estimates_of_an_operation_go_on_the_scale_of_its_measurements() -> None:
    problem, other = conv(), conv(21)
    names = [name for name, _ in problem.ranking()]
    ratio = other.cost("direct") / other.cost("smm")
    keep(*(row(problem, name, 1e-9 * 7 * problem.cost(name)) for name in names))
    linear = _core.problem(
        "linear", [_core.Spec("float32", (1, 8))], _core.Weights.of([WEIGHT[:4, :8, 0, 0], None])
    )
    before = linear.cost("direct")
    assert other.cost("direct") / other.cost("smm") == pytest.approx(ratio)
    # A measured time and an estimate are told apart by nothing but their size.
    assert problem.cost("smm") / other.cost("smm") == pytest.approx(
        problem.cost("direct") / other.cost("direct"), rel=0.5
    )
    assert linear.cost("direct") == before


def test_what_may_not_be_chosen_unasked_is_not() -> None:
    problem = conv()
    usual = problem.resolve("default")
    keep(row(problem, "winograd f6", 1e-9, unasked=False), row(problem, usual, 1e-3))
    assert problem.resolve("default") == usual
    keep(row(problem, "winograd f6", 1e-9, unasked=True))
    assert problem.resolve("default") == "winograd f6"


def test_bfloat16_is_never_chosen_unasked() -> None:
    problem = conv()
    keep(row(problem, "direct bf16", 1e-9), row(problem, "direct", 1e-3))
    assert not problem.resolve("default").endswith("bf16")
    assert problem.resolve("default bf16") == "direct bf16"


@pytest.mark.parametrize("field", Machine._fields)
def test_an_entry_of_another_machine_or_version_is_never_used(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = conv()
    usual = problem.resolve("default")
    with monkeypatch.context() as patch:
        there = database.here()._replace(**{field: "another"})
        patch.setattr(database, "here", lambda: there)
        keep(*quick(problem))
        assert problem.resolve("default") == "smm"
    database.renew()
    assert problem.resolve("default") == usual


def test_an_entry_for_other_threads_is_not_used() -> None:
    spec, weights = _core.Spec("float32", (1, 16, 20, 20)), _core.Weights.of([WEIGHT, None])
    one, two = (_core.problem("conv2d", [spec], weights, {}, threads) for threads in (1, 2))
    usual = two.resolve("default")
    keep(*quick(one))
    assert (one.resolve("default"), two.resolve("default")) == ("smm", usual)


def test_times_of_threads_that_have_a_core_each_come_first() -> None:
    problem = conv()
    keep(
        row(problem, "smm", 1e-9, state="shared"),
        row(problem, "direct", 1e-3, state="apart"),
        row(problem, "gemm", 1e-4, state="apart"),
    )
    assert problem.cost("gemm") < problem.cost("direct")
    assert database.Times.of(database.opened(), problem.key).keys() == {"direct", "gemm"}  # type: ignore[arg-type]


def test_the_same_problem_is_known_however_it_is_spelled() -> None:
    same = [
        {},
        {"padding": 0, "stride": (1, 1)},
        {"padding": (0, 0, 0, 0), "groups": 1, "padding_mode": "zeros", "dilation": 1},
        {"output_layout": "dense", "activation": "none", "activation_parameter": 0.0},
    ]
    assert len({conv(**attributes).key for attributes in same}) == 1
    others = [
        *({"padding": 1}, {"padding": (1, 0)}, {"padding": (0, 1)}, {"padding": (1, 0, 0, 0)}),
        *({"stride": 2}, {"dilation": 2}, {"activation": "relu"}, {"output_layout": "blocked"}),
    ]
    keys = {conv(**attributes).key for attributes in [{}, *others]}
    assert len(keys) == 1 + len(others)


def _write(start: int, count: int) -> None:
    for i in range(start, start + count):
        database.write([row(conv(i), "direct", 1e-3), row(conv(i), "smm", 2e-3)])


def test_many_processes_write_and_read_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(20 + 10 * i, 10)) for i in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        database.opened()
        workers[0].join(0.01)
    assert [worker.exitcode for worker in workers] == [0] * 4
    times = database.opened()
    assert times is not None
    assert all(len(times.rows(conv(i).key)) == 2 for i in range(20, 60))


def test_a_child_that_was_forked_reads_on() -> None:
    keep(*quick(conv()), *quick(conv(21)))
    assert conv().resolve("default") == "smm"
    child = os.fork()
    if child == 0:
        os._exit(0 if conv(21).resolve("default") == "smm" else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("damage", ["no database", "cut", "overwritten"])
def test_a_damaged_file_is_put_aside(cache: Path, damage: str) -> None:
    rows = [each for i in range(20, 200) for each in quick(conv(i))]
    database.write(rows)
    file = database.path()
    content = bytearray(file.read_bytes())
    if damage == "no database":
        content[:] = b"not a database at all" * 100
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    database.renew()
    with pytest.warns(RuntimeWarning, match="is damaged"):
        for i in range(20, 200):
            conv(i).resolve("default")
    assert file.with_name(f"{file.name}.damaged").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep(*quick(conv()))
        assert conv().resolve("default") == "smm"


def test_a_damaged_file_is_put_aside_by_who_writes(cache: Path) -> None:
    cache.mkdir()
    database.path().write_bytes(b"damaged" * 1000)
    with pytest.warns(RuntimeWarning, match="is damaged"):
        database.write(quick(conv()))
    database.renew()
    assert conv().resolve("default") == "smm"


def test_a_folder_that_cannot_be_written_is_an_error_in_one_sentence(cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(OSError) as error:
        database.write(quick(conv()))
    assert str(database.path()) in str(error.value) or str(cache) in str(error.value)


def test_a_full_folder_leaves_nothing_half_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(*quick(conv()))
    connect = database._connect

    def full(file: Path, mode: str) -> sqlite3.Connection:
        connection = connect(file, mode)
        if mode != "ro":
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(database, "_connect", full)
        with pytest.raises(OSError, match="cannot be written: database or disk is full"):
            database.write([each for i in range(21, 500) for each in quick(conv(i))])
    database.renew()
    assert conv().resolve("default") == "smm"
    times = database.opened()
    assert times is not None and not times.rows(conv(21).key)


def test_export_and_import(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="nothing was measured"):
        ai3.tuning.export(tmp_path / "times")
    keep(*quick(conv()))
    assert ai3.tuning.export(tmp_path / "times") == 4
    ai3.tuning.clear()
    assert conv().resolve("default") != "smm"
    assert ai3.tuning.import_(tmp_path / "times") == 4
    assert conv().resolve("default") == "smm"
    another = Machine("another", "avx512", "0")
    monkeypatch.setattr(database, "here", lambda: another)
    ai3.tuning.clear()
    assert ai3.tuning.import_(tmp_path / "times") == 0
    assert conv().resolve("default") != "smm"


def test_tells_what_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert whole.summary() == []
    keep(*quick(conv()), *quick(conv(21)))
    (kept,) = whole.summary()
    assert kept[:3] == (database.here(), 2, 8) and kept.here
    monkeypatch.setattr(database, "here", lambda: Machine("another", "avx512", "0"))
    keep(*quick(conv()))
    assert [(each.problems, each.here) for each in whole.summary()] == [(1, True), (2, False)]
    database.path().write_bytes(b"damaged" * 1000)
    with pytest.raises(ValueError, match="cannot be read"):
        whole.summary()


def test_import_refuses_other_files(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ai3.tuning.import_(tmp_path / "nothing")
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(ValueError, match="holds no measured times"):
        ai3.tuning.import_(tmp_path / "text")
    database.write([row(conv(), "smm", -1.0)])
    database.path().rename(tmp_path / "wrong")
    with pytest.raises(ValueError, match=r"smm took -1\.0 seconds"):
        ai3.tuning.import_(tmp_path / "wrong")
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE a (b)").connection.close()
    with pytest.raises(ValueError, match="holds no measured times"):
        ai3.tuning.import_(tmp_path / "other")
    assert not database.path().exists()


def test_importing_ai3_opens_nothing(cache: Path) -> None:
    keep(*quick(conv()))
    check = "import sys, ai3; sys.exit('sqlite3' in sys.modules or 'platformdirs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], env=dict(os.environ)).returncode == 0
