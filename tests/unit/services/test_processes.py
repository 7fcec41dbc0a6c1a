"""What the integration services rest on: folders filled once, processes found by their mark, waiting with a deadline."""

import os
import subprocess
import sys

import pytest

from integration.services.process import Run, free_port, is_alive, named_run, remove_abandoned_runs
from integration.services.tools import ServiceError, ToolMissingError, cached, require

_SLEEP = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(60)"]
_FOREVER = [sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"]
_PARENT = [sys.executable, "-c", f"import subprocess; subprocess.run({_SLEEP})"]


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    yield run
    run.stop()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_UNIFIED_CACHE", str(tmp_path / "cache"))


def test_processes_are_found_by_name_until_they_end(run):
    """A process is found from its start to its end, by the beginning of its name."""
    process = run.spawn("flink-one", _SLEEP)
    assert run.processes("flink") == {process.pid: "flink-one"}
    assert run.processes("kafka") == {}
    process.kill()
    process.wait(timeout=5)
    assert run.processes() == {}


def test_processes_of_other_runs_are_not_ours(run, tmp_path):
    """Two runs with the same names do not see each other."""
    other = Run(tmp_path / "other")
    other.spawn("kafka", _SLEEP)
    assert run.processes() == {}
    run.stop()
    assert list(other.processes().values()) == ["kafka"]
    other.remove()
    assert other.processes() == {}
    assert not other.directory.exists()


def test_stop_ends_children_and_the_deaf(run):
    """A process that ignores the polite signal is killed, and the children of a process go with it."""
    run.spawn("deaf", _FOREVER)
    run.spawn("parent", _PARENT)
    run.wait_until("child", lambda: _expect(len(run.processes("parent")) == 2), name="parent")
    run.stop(grace_s=0.5)
    assert run.processes() == {}


def test_waiting_ends_with_the_process(run):
    """Nobody waits for the dead; the error shows what it said last."""
    run.spawn("kafka", [sys.executable, "-c", "raise SystemExit('no disk')"])
    with pytest.raises(ServiceError, match=r"kafka has ended while waiting for an answer(.|\n)*no disk"):
        run.wait_until("an answer", lambda: _expect(False), name="kafka")


def test_waiting_has_a_deadline(run):
    """The error tells what was waited for, the last answer, and the end of the log."""
    run.spawn("kafka", _SLEEP)
    run.wait_until("log", lambda: _expect("started" in run.log_tail("kafka")), name="kafka")
    with pytest.raises(ServiceError, match=r"no answer in 0 s: LookupError(.|\n)*started"):
        run.wait_until("answer", lambda: _expect(False), name="kafka", timeout_s=0.3)


def test_runs_of_ended_sessions_are_removed():
    """What a killed test session left running is ended by the next one; a living session is left alone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    abandoned, living = named_run(f"pytest-{ended.pid}"), named_run(f"pytest-{os.getpid()}")
    pid = abandoned.spawn("kafka", _SLEEP).pid
    living.spawn("kafka", _SLEEP)
    remove_abandoned_runs()
    assert not is_alive(pid)
    assert not abandoned.directory.exists()
    assert len(living.processes()) == 1
    living.remove()


def test_a_cached_folder_appears_whole_or_not_at_all():
    """A failed download leaves nothing; a finished one is not repeated."""

    def fail(folder):
        (folder / "half").write_text("")
        raise ServiceError("no network")

    with pytest.raises(ServiceError, match="no network"):
        cached("jars/kafka-1", fail)
    folder = cached("jars/kafka-1", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert cached("jars/kafka-1", fail) == folder


def test_a_missing_tool_is_named(monkeypatch):
    """One line says what is missing and what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissingError, match=r"^mvn is not on PATH: install Maven .*$"):
        require("mvn")


def test_free_ports_are_outside_the_range_of_outgoing_connections():
    """Nobody takes the port between asking for it and listening on it."""
    assert 10_000 <= free_port() < 32_000


def _expect(condition):
    if not condition:
        raise LookupError("not yet")
