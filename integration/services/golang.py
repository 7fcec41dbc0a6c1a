"""Programs written in Go, built at a pinned version by `go install`. Called by `object_store.py` and `prism.py`."""

from pathlib import Path

from integration.services.tools import cached, require, run_tool


def program(package: str, version: str) -> Path:
    """The program of a Go package; built on first use, which takes one to two minutes."""
    name = package.rsplit("/", 1)[-1]

    def build(folder: Path) -> None:
        run_tool([require("go"), "install", f"{package}@{version}"], environment={"GOBIN": str(folder)})

    return cached(f"go/{name}-{version}", build) / name
