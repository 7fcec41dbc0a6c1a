"""Processes of services: start them, wait until they answer, find them again, end them.

A run is a folder and the processes marked with it. The mark is two environment variables, which children inherit: so
processes are found by asking the system, never by a stored pid that may be somebody else's by now, and an interrupted
start leaves nothing that `stop` would not find. Called by the modules of the services and by `lifecycle.py`.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import tenacity

from integration.services.tools import ServiceError, cache_directory

_T = TypeVar("_T")

_RUN = "BEAM_UNIFIED_RUN"
_NAME = "BEAM_UNIFIED_PROCESS"
_REPOSITORY = Path(__file__).parents[2]
_PORTS = range(10_000, 32_000)  # below the range from which Linux takes ports of outgoing connections

_KILLED_S = 30.0  # a large process on a busy machine takes its time to go, even killed
_children: list[subprocess.Popen[bytes]] = []  # kept so that a killed child is reaped, and Popen does not warn


@dataclass(frozen=True, slots=True)
class Run:
    """A folder with logs and data of services, and the processes that belong to it."""

    directory: Path

    def path(self, *parts: str) -> Path:
        """A folder of this run, made when missing."""
        path = self.directory.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        """Where the process of that name writes what it prints."""
        return self.path("logs") / f"{name}.log"

    def log_tail(self, name: str, lines: int = 30) -> str:
        """The end of a log, under its path."""
        log = self.log(name)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else "(no log)"
        return f"{log}:\n" + "\n".join(text.splitlines()[-lines:])

    def spawn(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> psutil.Process:
        """Start a process in a session of its own (Ctrl-C does not reach it), marked as ours."""
        marked = {**os.environ, **(environment or {}), _RUN: str(self.directory), _NAME: name}
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=_REPOSITORY,
                env=marked,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _children.append(child)
        # For an instant the new program has no environment yet, and would be overlooked.
        while child.pid not in self.processes(name) and child.poll() is None:
            continue
        return psutil.Process(child.pid)

    def processes(self, prefix: str = "") -> dict[int, str]:
        """Pid and name of the living processes of this run whose name begins with the prefix, children included."""
        _reap()
        found = {}
        for process in psutil.process_iter():
            try:
                environment = process.environ() if is_alive(process.pid) else {}
            except psutil.Error:  # gone meanwhile, or not ours to look at
                continue
            if environment.get(_RUN) == str(self.directory) and environment.get(_NAME, "").startswith(prefix):
                found[process.pid] = environment[_NAME]
        return found

    def wait_until(self, what: str, ask: Callable[[], _T], *, name: str, timeout_s: float = 60) -> _T:
        """Ask until there is an answer.

        Args:
            what: What is waited for, for the error.
            ask: Raises until the answer is there.
            name: The process that must stay alive meanwhile; its log is shown when it does not.
            timeout_s: The deadline. Whole, not per question.
        """

        def ask_living() -> _T:
            if not self.processes(name):
                raise ServiceError(f"{name} has ended while waiting for {what}\n{self.log_tail(name)}")
            return ask()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_not_exception_type(ServiceError),
            stop=tenacity.stop_after_delay(timeout_s),
            wait=tenacity.wait_fixed(0.15),
        )
        try:
            return retrying(ask_living)
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            raise ServiceError(f"no {what} in {timeout_s:.0f} s: {last!r}\n{self.log_tail(name)}") from last

    def stop(self, prefix: str = "", *, grace_s: float = 3) -> None:
        """End the processes whose name begins with the prefix; those that take longer than the grace are killed."""
        for send, patience_s in ((psutil.Process.terminate, grace_s), (psutil.Process.kill, _KILLED_S)):
            for pid in self.processes(prefix):
                with contextlib.suppress(psutil.NoSuchProcess):
                    send(psutil.Process(pid))
            ended = tenacity.Retrying(
                retry=tenacity.retry_if_result(bool),
                stop=tenacity.stop_after_delay(patience_s),
                wait=tenacity.wait_fixed(0.05),
                retry_error_callback=lambda _: self.processes(prefix),
            )
            if not ended(self.processes, prefix):
                return
        raise ServiceError(f"still alive after a kill: {self.processes(prefix)}")

    def remove(self) -> None:
        """End all processes and remove the folder."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def named_run(label: str) -> Run:
    """The run of that name in the cache. A label that ends in "-PID" is removed once that process is gone."""
    return Run(cache_directory() / "runs" / label)


def remove_abandoned_runs() -> None:
    """End what a killed test session has left behind."""
    for directory in (cache_directory() / "runs").glob("*-*"):
        owner = re.search(r"-(\d+)$", directory.name)
        if owner and directory.is_dir() and not is_alive(int(owner[1])):
            Run(directory).remove()


def is_alive(pid: int) -> bool:
    """Whether the process exists and has not ended; an ended one may be listed until its parent looks."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]
