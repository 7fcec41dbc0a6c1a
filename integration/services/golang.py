"""Programs written in Go, built at a pinned version by `go install`. Called by `object_store.py` and `prism.py`."""

from pathlib import Path

from integration.services.tools import cache_directory, cached, require, run_tool


def program(package: str, version: str) -> Path:
    """The program of a Go package; built on first use, which takes one to two minutes."""

    def build(folder: Path) -> None:
        run_tool([require("go"), "install", f"{package}@{version}"], environment={"GOBIN": str(folder)})

    return cached(_folder(package, version), build) / _name(package)


def built_program(package: str, version: str) -> Path | None:
    """The program if it has been built."""
    path = cache_directory() / _folder(package, version) / _name(package)
    return path if path.exists() else None


def _name(package: str) -> str:
    return package.rsplit("/", 1)[-1]


def _folder(package: str, version: str) -> str:
    return f"go/{_name(package)}-{version}"
