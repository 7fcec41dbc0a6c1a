"""Fixtures of the archive's tests."""

import uuid

import fsspec
import pytest

from tests.unit.archive.folders import Broken, FailingFiles


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    """An empty place for an archive."""
    return f"{tmp_path.as_posix()}/archive" if request.param == "local" else f"memory://{uuid.uuid4().hex}/archive"


@pytest.fixture
def broken(root) -> Broken:
    """A flush to damage."""
    return Broken(root)


@pytest.fixture
def failing(monkeypatch) -> type[FailingFiles]:
    """The file system `failing://`, empty; set `failures`."""
    fsspec.register_implementation("failing", FailingFiles, clobber=True)
    for name, value in (("store", {}), ("pseudo_dirs", [""]), ("failures", {}), ("calls", [])):
        monkeypatch.setattr(FailingFiles, name, value)
    return FailingFiles
