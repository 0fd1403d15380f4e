"""Measured times, in one SQLite file that many processes read and write at once.

Every row is of a machine: a processor, the instruction set level, and the version of the kernels. A
row of another one is never used. Transactions are short and there is no write-ahead log, so that
a folder that can only be read will do, and one on a network.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache as once
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from ai3 import _core, cache, machine
from ai3.tuning import NAME
from ai3.tuning.calibrate import USUAL_CYCLES, calibrated

PATIENCE = 10.0
"""Seconds to wait for another process's transaction."""

KEPT_DAYS = 90
"""How long the rows of other versions of the kernels stay."""

_TABLES = """
CREATE TABLE IF NOT EXISTS machines (
    id INTEGER PRIMARY KEY, processor TEXT NOT NULL, level TEXT NOT NULL, kernels TEXT NOT NULL,
    used REAL NOT NULL, UNIQUE (processor, level, kernels));
CREATE TABLE IF NOT EXISTS measured (
    machine INTEGER NOT NULL, problem TEXT NOT NULL, state TEXT NOT NULL, algorithm TEXT NOT NULL,
    op TEXT NOT NULL, threads INTEGER NOT NULL, seconds REAL NOT NULL, samples INTEGER NOT NULL,
    cycles REAL, error REAL, packed INTEGER NOT NULL, workspace INTEGER NOT NULL,
    unasked INTEGER NOT NULL,
    PRIMARY KEY (machine, problem, state, algorithm)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scales (
    machine INTEGER NOT NULL, op TEXT NOT NULL, threads INTEGER NOT NULL, scale REAL NOT NULL,
    cycles REAL NOT NULL, PRIMARY KEY (machine, op, threads)) WITHOUT ROWID;
"""


class Machine(NamedTuple):
    """What measured times hold for."""

    processor: str
    level: str
    kernels: str


class Row(NamedTuple):
    """What an algorithm took for a problem: `seconds` is the median of `samples`, measured in a
    `state` of the machine; `cycles` the estimate, None where there is none; `error` its relative L2
    error against float64, where it was measured; `packed` and `workspace` the bytes of what it
    makes of the weights and of what it needs while it runs; `unasked` whether "default" may stand
    for it."""

    problem: str
    state: str
    algorithm: str
    op: str
    threads: int
    seconds: float
    samples: int
    cycles: float | None = None
    error: float | None = None
    packed: int = 0
    workspace: int = 0
    unasked: bool = True


COLUMNS, _MARKS = ", ".join(Row._fields), ", ".join("?" for _ in Row._fields)

session: dict[str, list[Row]] = {}
"""By problems what this process measured and does not keep: the user's own algorithms change, and
a folder may be none to write in."""


@once
def here() -> Machine:
    return Machine(machine.processor(), _core.isa, _core.kernels)


def path() -> Path:
    return cache.folder() / NAME


class Times:
    """What the core asks, see `_core.measure_by`."""

    def __init__(self, stored: "_Reader | None") -> None:
        self._stored = stored
        rows = {(op, threads): rest for op, threads, *rest in stored.scales()} if stored else {}
        own = [row for of in session.values() for row in of]
        for threads in {row.threads for row in own}:
            for op, *rest in calibrated((r.op, r.seconds, r.cycles) for r in own if r.unasked):
                rows.setdefault((op, threads), rest)
        self.scales = {key: scale for key, (scale, _) in rows.items()}
        self._per_second = {threads: cycles for (_, threads), (_, cycles) in rows.items()}

    def of(self, key: str) -> dict[str, tuple[float, bool]]:
        """The cycles of a problem's algorithms, and whether "default" may stand for each."""
        rows = preferred([*self.rows(key)])
        return {
            row.algorithm: (row.seconds * self._per_second[row.threads], row.unasked)
            for row in rows
            if row.threads in self._per_second
        }

    def expected(self, problem: _core.Problem, algorithm: str) -> tuple[float | None, float | None]:
        """What an algorithm takes for a problem, measured or else estimated, in ms, and its error;
        None where it is not known."""
        for row in preferred(self.rows(problem.key)):
            if row.algorithm == algorithm:
                return 1e3 * row.seconds, row.error
        cycles = problem.cost(algorithm)
        per_second = self._per_second.get(problem.threads, USUAL_CYCLES)
        return (1e3 * cycles / per_second if isfinite(cycles) else None), None

    def rows(self, key: str) -> list[Row]:
        """All that is known of a problem, in every state."""
        stored = [] if self._stored is None else self._stored.rows(key)
        own = session.get(key, [])
        taken = {(row.state, row.algorithm) for row in own}
        return [*own, *(row for row in stored if (row.state, row.algorithm) not in taken)]


def preferred(rows: Sequence[Row]) -> list[Row]:
    """Those of one state, threads that have a core each before others: the same always, whatever
    state the machine is in."""
    states = (machine.APART, machine.BETWEEN, machine.SHARED)
    return next((of for s in states if (of := [r for r in rows if r.state == s])), [])


def opened(of: Machine | None = None) -> Times | None:
    """The times of this machine, or of another; None, at the price of a look, where there is no
    file."""
    file = path()
    if file.exists():
        with _read_or_warned_of(file):
            return Times(_Reader(file, of or here()))
    return Times(None) if session else None


def renew() -> None:
    """Have what is planned from now on use what the database holds now."""
    _core.measure_by(opened)


def remember(rows: Iterable[Row]) -> None:
    """Use rows in this process only."""
    for row in rows:
        others = [
            r
            for r in session.get(row.problem, [])
            if (r.state, r.algorithm) != (row.state, row.algorithm)
        ]
        session[row.problem] = [*others, row]


def write(rows: Sequence[Row]) -> None:
    """Keep rows of this machine, in one transaction. Raises OSError where the folder cannot be
    written."""
    write_of({here(): rows})


def writable() -> None:
    """Raises OSError, with the reason, where the folder cannot be written."""
    write_of({here(): ()})


def write_of(rows: Mapping[Machine, Sequence[Row]]) -> None:
    """The same for rows of any machines."""
    file = path()

    def work(connection: sqlite3.Connection) -> None:
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        for of, of_it in rows.items():
            number = _number_of(connection, of)
            connection.executemany(
                f"INSERT OR REPLACE INTO measured (machine, {COLUMNS}) VALUES (?, {_MARKS})",
                [(number, *row) for row in of_it],
            )
            for threads in {row.threads for row in of_it}:
                _calibrate(connection, number, threads)
        oldest = time.time() - 86400 * KEPT_DAYS
        for table in ("measured", "scales"):
            stale = "(SELECT id FROM machines WHERE used < ?)"
            connection.execute(f"DELETE FROM {table} WHERE machine IN {stale}", (oldest,))
        connection.execute("DELETE FROM machines WHERE used < ?", (oldest,))

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            _transact(file, work)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _put_aside(file, error)
            _transact(file, work)
    except sqlite3.Error as error:
        raise OSError(f"{file} cannot be written: {error}") from None


def _transact(file: Path, work: Callable[[sqlite3.Connection], None]) -> None:
    with connected(file, "rwc") as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


class _Reader:
    """A connection for each process: one does not outlive a fork."""

    def __init__(self, file: Path, of: Machine) -> None:
        self._file, self._of, self._lock = file, of, threading.Lock()
        self._open()

    def __del__(self, process: Callable[[], int] = os.getpid) -> None:  # there is no `os` at exit
        connection = getattr(self, "_connection", None)
        if connection is not None and self._process == process():
            connection.close()

    def scales(self) -> list[tuple[str, int, float, float]]:
        if self._id < 0:
            return []
        query = "SELECT op, threads, scale, cycles FROM scales WHERE machine = ?"
        return self._connection.execute(query, (self._id,)).fetchall()

    def rows(self, key: str) -> list[Row]:
        with self._lock, _read_or_warned_of(self._file):
            if self._process != os.getpid():
                self._open()
            query = f"SELECT {COLUMNS} FROM measured WHERE machine = ? AND problem = ?"
            found = self._connection.execute(query, (self._id, key)).fetchall()
            return [row_of(row) for row in found]
        return []

    def _open(self) -> None:
        self._process = os.getpid()
        self._connection = _connect(self._file, "ro")
        self._id = -1
        if self._connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            return  # another process is about to make the tables
        query = "SELECT id FROM machines WHERE processor = ? AND level = ? AND kernels = ?"
        found = self._connection.execute(query, self._of).fetchone()
        if found is not None:
            self._id = found[0]


def row_of(columns: Sequence[Any]) -> Row:
    row = Row._make(columns)
    return row._replace(unasked=bool(row.unasked))


def _quoted(file: Path) -> str:
    """As a URI has it, without urllib: importing that takes longer than opening the file."""
    path = file.absolute().as_posix()
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{_quoted(file)}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def connected(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    connection = _connect(file, mode)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _read_or_warned_of(file: Path) -> Iterator[None]:
    """Nothing that is wrong with the file stops a network."""
    try:
        yield
    except sqlite3.Error as error:
        if _is_damage(error):
            _put_aside(file, error)
        else:
            _warn(f"measured times are not used, as {file} cannot be read: {error}")


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is wrong in itself, and not only locked or out of reach."""
    return type(error) is sqlite3.DatabaseError


def _put_aside(file: Path, error: sqlite3.Error) -> None:
    with suppress(sqlite3.Error), connected(file, "ro") as connection:
        if connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
            return  # another process was faster
    aside = file.with_name(f"{file.name}.damaged")
    with suppress(OSError):
        file.replace(aside)
    _warn(f"{file} is damaged ({error}): it is {aside.name} now, and its measured times are lost")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _number_of(connection: sqlite3.Connection, of: Machine) -> int:
    connection.execute(
        "INSERT INTO machines (processor, level, kernels, used) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET used = excluded.used",
        (*of, time.time()),
    )
    query = "SELECT id FROM machines WHERE processor = ? AND level = ? AND kernels = ?"
    found: int = connection.execute(query, of).fetchone()[0]
    return found


def _calibrate(connection: sqlite3.Connection, machine: int, threads: int) -> None:
    query = "SELECT op, seconds, cycles FROM measured WHERE machine = ? AND threads = ? AND unasked"
    scales = calibrated(connection.execute(query, (machine, threads)))
    connection.executemany(
        "INSERT OR REPLACE INTO scales (machine, op, threads, scale, cycles) "
        "VALUES (?, ?, ?, ?, ?)",
        [(machine, op, threads, scale, cycles) for op, scale, cycles in scales],
    )
