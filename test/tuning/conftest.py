from collections.abc import Iterator
from pathlib import Path

import pytest

from ai3 import _core
from ai3.tuning import database, opened


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own, which is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AI3_CACHE_DIR", str(folder))
    database.renew()
    yield folder
    database.session.clear()
    monkeypatch.undo()
    _core.measure_by(opened)
