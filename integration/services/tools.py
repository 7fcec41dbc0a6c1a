"""The tools of this machine (java, mvn, go) and the folders that are ours. Called by every module of this package."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_INSTALL = {
    "java": "a Java 17 runtime (Debian: apt-get install openjdk-17-jre-headless)",
    "mvn": "Maven 3.8 or later (Debian: apt-get install maven)",
    "go": "Go 1.24 or later (https://go.dev/dl)",
    "dpkg-deb": "dpkg (it is part of Debian and Ubuntu; elsewhere a package manager has it)",
}


class ServiceError(Exception):
    """A service could not be had; the message carries the end of its log."""


class ToolMissingError(ServiceError):
    """A tool of this machine is missing: tests are skipped, except in CI."""


def require(tool: str) -> str:
    """Where a tool is. Raises ToolMissingError, in one line that says what to install."""
    path = shutil.which(tool)
    if path is None:
        raise ToolMissingError(f"{tool} is not on PATH: install {_INSTALL[tool]}")
    return path


def cache_directory() -> Path:
    """Where downloads and runs are kept: BEAM_UNIFIED_CACHE, or ~/.cache/beam-unified."""
    configured = os.environ.get("BEAM_UNIFIED_CACHE")
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".cache" / "beam-unified"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it, so it is never stale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled once: it appears whole, by a rename, or not at all.

    Args:
        name: Relative to the cache. Holds whatever decides the content (a version, a hash), since nothing expires.
        fill: Writes the content into the empty folder it is given.
    """
    target = cache_directory() / name
    if target.is_dir():
        return target
    with locked(target.with_name(target.name + ".lock")):
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
            content = Path(partial) / "content"
            content.mkdir()
            fill(content)
            content.rename(target)
    return target


def run_tool(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float = 900,
) -> None:
    """Run a tool to its end, in a folder. Raises ServiceError with the end of what it printed."""
    merged = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run(
            command, env=merged, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{' '.join(command)}: not done in {timeout_s:.0f} s") from error
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise ServiceError(f"{' '.join(command)}: exit code {done.returncode}\n{end}")
