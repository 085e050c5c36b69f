"""Shared by all tests: the real data, and how hypothesis searches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_anybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs that all tests share are made where there is no cache directory, wherever they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "absent"))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets, as `--data-dir` takes it; a test that asks for it is marked `real_data`."""
    directory = Path(os.environ.get("PACTL_TEST_DATA") or REPOSITORY / ".." / "shared" / "data").resolve()
    if not directory.is_dir():
        pytest.skip(f"NO REAL DATA: there is no directory {directory}; set PACTL_TEST_DATA to one that has them")
    return directory


@pytest.fixture(scope="session")
def _warm_workers() -> None:
    """The server of worker processes has imported what they need: it takes seconds, once."""
    from pactl_cli.data.files.workers import mapped

    assert list(mapped(abs, [-1, -2], 2, 2)) == [1, 2]


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")
