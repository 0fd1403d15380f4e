"""The database as a whole: told of, shared between machines of one kind, forgotten."""

import os
import sqlite3
from math import inf
from pathlib import Path
from typing import NamedTuple

from ai3.tuning import database
from ai3.tuning.database import Machine


def export(to: "str | os.PathLike[str]") -> int:
    """Write all measured times to a file, for machines of this kind; the number of them. Raises
    OSError where it cannot be written, FileNotFoundError where nothing was measured."""
    target, source = Path(to), database.path()
    if not source.exists():
        raise FileNotFoundError(f"nothing was measured yet: there is no {source}")
    part = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        with database.connected(source, "ro") as stored:
            rows: int = stored.execute("SELECT count(*) FROM measured").fetchone()[0]
            with database.connected(part, "rwc") as made:
                stored.backup(made)
        part.replace(target)
    except sqlite3.Error as error:
        raise OSError(f"{target} cannot be written of {source}: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return rows


def import_(of: "str | os.PathLike[str]") -> int:
    """Add the measured times of a file that `export` wrote, also in the place of what was measured
    here; how many of them are for machines of this kind, and so of use here. Raises ValueError for
    any other file, and OSError where the folder cannot be written; then nothing was added."""
    source = Path(of)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        with database.connected(source, "ro") as stored:
            machines = stored.execute("SELECT id, processor, level, kernels FROM machines")
            found = {number: Machine(*rest) for number, *rest in machines.fetchall()}
            query = f"SELECT {database.COLUMNS} FROM measured WHERE machine = ?"
            rows = {
                m: [database.row_of(r) for r in stored.execute(query, (n,))]
                for n, m in found.items()
            }
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{source} holds no measured times: {error}") from None
    for row in (row for of_machine in rows.values() for row in of_machine):
        if not (isinstance(row.seconds, float) and 0 < row.seconds < inf):
            raise ValueError(f"{source} is damaged: {row.algorithm} took {row.seconds!r} seconds")
    database.write_of(rows)
    database.renew()
    return len(rows.get(database.here(), []))


class Stored(NamedTuple):
    """How many times are kept of a machine, of how many problems, and when the latest was added,
    seconds since 1970; `here` tells whether they are used."""

    machine: Machine
    problems: int
    times: int
    used: float
    here: bool


def summary() -> list[Stored]:
    """What the file holds, the latest first. Raises ValueError where it cannot be read."""
    file = database.path()
    if not file.exists():
        return []
    query = (
        "SELECT processor, level, kernels, count(DISTINCT problem), count(problem), used "
        "FROM machines LEFT JOIN measured ON measured.machine = machines.id "
        "GROUP BY machines.id ORDER BY used DESC"
    )
    try:
        with database.connected(file, "ro") as stored:
            rows = stored.execute(query).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    machines = ((Machine(*row[:3]), row[3:]) for row in rows)
    return [Stored._make((of, *rest, of == database.here())) for of, rest in machines]


def clear() -> None:
    """Forget all measured times. Raises OSError where the file cannot be removed."""
    database.session.clear()
    database.path().unlink(missing_ok=True)
    database.renew()
