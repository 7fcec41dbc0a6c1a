"""Debian's rsyslog with its module for Kafka, run as whoever runs the tests, without a syslog socket.

What it does is in the configuration that it is given; docs/log-agents.md holds one. Called by `integration/ops`; not by
the command line, which has no file to be followed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import psutil

from integration.services import debian
from integration.services.process import Run
from integration.services.tools import ServiceError, run_tool

# The two, and what they need beyond a bare Debian 12.
_PACKAGES = {
    "rsyslog": "pool/main/r/rsyslog/rsyslog_8.2302.0-1+deb12u1_amd64.deb",
    "rsyslog-kafka": "pool/main/r/rsyslog/rsyslog-kafka_8.2302.0-1+deb12u1_amd64.deb",
    "libestr0": "pool/main/libe/libestr/libestr0_0.1.11-1_amd64.deb",
    "libfastjson4": "pool/main/libf/libfastjson/libfastjson4_1.2304.0-1_amd64.deb",
    "librdkafka1": "pool/main/libr/librdkafka/librdkafka1_2.0.2-1_amd64.deb",
    "libsasl2-2": "pool/main/c/cyrus-sasl2/libsasl2-2_2.1.28+dfsg-10_amd64.deb",
}

_CONFIGURATION, _BEFORE_START, _AFTER_STOP = "rsyslog.conf", "before-start.sh", "after-stop.sh"
_STOP_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsyslog:
    """A running rsyslogd.

    Args:
        run: Where it lives.
        follows: The log file that it reads.
    """

    name: ClassVar[str] = "rsyslog"

    run: Run
    follows: str

    @classmethod
    def start(cls, run: Run, follows: Path, configuration: str, before_start: str, after_stop: str) -> Self:
        """Start one that remembers nothing.

        Args:
            run: Where it lives.
            follows: The log file that the configuration makes it read. It exists.
            configuration: In rsyslog's language; what it keeps belongs into `folder(run)`.
            before_start: A shell script, run as systemd would run ExecStartPre.
            after_stop: A shell script, run as systemd would run ExecStopPost: not after a power cut.

        Raises:
            ServiceError: rsyslogd has something against the configuration, or does not open the file.
        """
        for name, text in ((_CONFIGURATION, configuration), (_BEFORE_START, before_start), (_AFTER_STOP, after_stop)):
            cls.folder(run).joinpath(name).write_text(text, encoding="utf-8")
        agent = cls(run=run, follows=str(follows))
        run_tool([*agent._command(), "-N1"], environment=_libraries())
        agent.start_again()
        return agent

    @classmethod
    def folder(cls, run: Run) -> Path:
        """For its state and its queues."""
        return run.path(cls.name)

    def start_again(self) -> None:
        """Start it on what it has kept, after `kill` or `stop`."""
        self._run_script(_BEFORE_START)
        self.run.spawn(self.name, self._command(), environment=_libraries())
        self.run.wait_until("look at the log file", self.ask, name=self.name, timeout_s=30)

    def kill(self) -> None:
        """As a power cut would: it keeps what is written by now, and nothing runs afterwards."""
        self.run.stop(self.name, grace_s=0)

    def stop(self) -> None:
        """As a system that shuts down would. Raises ServiceError if it does not end by itself."""
        processes = [psutil.Process(pid) for pid in self.run.processes(self.name)]
        for process in processes:
            process.terminate()
        if psutil.wait_procs(processes, timeout=_STOP_S)[1]:
            raise ServiceError(f"{self.name} does not end in {_STOP_S} s\n{self.run.log_tail(self.name)}")
        self._run_script(_AFTER_STOP)

    def ask(self) -> None:
        """Raises unless it has the file open."""
        self.position()

    def position(self) -> int:
        """How many bytes of the file it has read. Raises LookupError unless it has the file open."""
        files = [file for pid in self.run.processes(self.name) for file in psutil.Process(pid).open_files()]
        # It has some files open twice: the other one is at byte 512, for what names the state.
        positions = [file.position for file in files if file.path == self.follows]
        if not positions:
            raise LookupError(f"{self.name} has not opened {self.follows}")
        return max(positions)

    def _run_script(self, name: str) -> None:
        run_tool(["sh", "-eu", str(self.folder(self.run) / name)], environment={"SERVICE_RESULT": "success"})

    def _command(self) -> list[str]:
        modules = ":".join(str(path) for path in _folders("*/rsyslog/*.so"))
        (programs,) = _folders("rsyslogd")
        configuration = self.folder(self.run) / _CONFIGURATION
        return [str(programs / "rsyslogd"), "-n", "-i", "NONE", "-M", modules, "-f", str(configuration)]


def _libraries() -> dict[str, str]:
    return {"LD_LIBRARY_PATH": ":".join(str(path) for path in _folders("lib*.so.*"))}


def _folders(pattern: str) -> list[Path]:
    """Those of the packages in which files match."""
    packages = [debian.unpacked(package, pool) for package, pool in _PACKAGES.items()]
    return sorted({path.parent for package in packages for path in package.rglob(pattern)})
