"""A Flink cluster (job manager and task managers as processes of their own) and Beam's job server in front of it.

Called by the command line and by the `flink` fixture. A task manager may be killed by its pid, and another started:
that is what the processes are for.
"""

import contextlib
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self

import grpc
import psutil

from integration.services import maven
from integration.services.java import java
from integration.services.process import Run, free_port
from integration.services.tools import ServiceError

_RUNTIME = "org.apache.flink.runtime"
_JOB_MANAGER = f"{_RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = f"{_RUNTIME}.taskexecutor.TaskManagerRunner"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# As Beam counts them: LateDataDroppingDoFnRunner before a grouping, StatefulDoFnRunner before a stateful DoFn.
_LATE_DROPS = ("_droppedDueToLateness", "_StatefulParDoDropped")
_METRICS_PORTS = 10  # processes whose metrics can be scraped at once
_HISTORY = 100  # failures that Flink remembers of a job
_TERMINAL = frozenset({"FINISHED", "CANCELED", "FAILED"})

# The proxy of the environment is not for localhost.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkCluster:
    """A running cluster and its job server.

    Args:
        run: Where it lives.
        rest_url: Flink's REST interface.
        job_endpoint: Beam's job server, "host:port".
        task_managers: How many it was started with.
        slots: Of each task manager.
        metrics_port: First of the ports on which the processes answer Prometheus, each on the first that is free.
    """

    name: ClassVar[str] = "flink"

    run: Run
    rest_url: str
    job_endpoint: str
    task_managers: int
    slots: int
    metrics_port: int

    @classmethod
    def start(cls, run: Run, *, task_managers: int = 1, slots: int = 4) -> Self:
        """Start all processes and wait until the task managers are registered."""
        # Jars first, so that a slow download is not taken for a slow start.
        flink_jars, job_server_jars = maven.class_path("flink"), maven.merged_class_path("job-server")
        rest_port, metrics_port = free_port(), free_port()
        _write_configuration(run, rest_port, metrics_port, slots)
        arguments = ("--configDir", str(run.path("flink", "conf")))
        temporary = run.path("flink", "tmp")
        run.spawn(
            "flink-job-manager",
            java(flink_jars, _JOB_MANAGER, *arguments, heap="512m", temporary=temporary, quick_start=True),
        )
        job_port = free_port()
        run.spawn(
            "flink-job-server",
            java(
                job_server_jars, _JOB_SERVER, f"--flink-master=localhost:{rest_port}", "--job-host=localhost",
                f"--job-port={job_port}", f"--artifact-port={free_port()}", f"--expansion-port={free_port()}",
                f"--artifacts-dir={run.path('flink', 'artifacts')}",
                heap="512m", temporary=temporary, quick_start=True,
            ),
        )  # fmt: skip
        cluster = cls(
            run=run,
            rest_url=f"http://localhost:{rest_port}",
            job_endpoint=f"localhost:{job_port}",
            task_managers=task_managers,
            slots=slots,
            metrics_port=metrics_port,
        )
        for name in [cluster._spawn_task_manager()[1] for _ in range(task_managers)]:
            cluster._wait_for_task_manager(name)
        run.wait_until("answer of the job server", cluster._ask_job_server, name="flink-job-server")
        return cluster

    def ask(self) -> None:
        """Raises unless all task managers are registered and the job server listens."""
        self._ask_overview()
        self._ask_job_server()

    # Task managers.

    def task_manager_pids(self) -> dict[int, str]:
        """Pid and name of the task managers that live. The name is Flink's id of it, too."""
        return self.run.processes("flink-task-manager")

    def start_task_manager(self) -> int:
        """Start one more task manager, wait until it is registered, return its pid."""
        pid, name = self._spawn_task_manager()
        self._wait_for_task_manager(name)
        return pid

    def kill_task_manager(self, pid: int | None = None) -> int:
        """`kill -9` a task manager, the first when none is named, and return its pid when it is gone."""
        killed = psutil.Process(next(iter(self.task_manager_pids())) if pid is None else pid)
        killed.kill()
        killed.wait(timeout=10)
        return killed.pid

    def registered_task_managers(self) -> list[str]:
        """Names of the task managers Flink knows; a killed one stays until its heartbeat times out."""
        return [manager["id"] for manager in self.get("/taskmanagers")["taskmanagers"]]

    def metrics_addresses(self) -> list[str]:
        """Where each process answers Prometheus now, as "host:port"."""
        found = []
        for port in range(self.metrics_port, self.metrics_port + _METRICS_PORTS):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                found.append(f"127.0.0.1:{port}")
        return found

    # Jobs.

    def jobs(self) -> dict[str, str]:
        """Id and status of all jobs, the newest first."""
        jobs = self.get("/jobs/overview")["jobs"]
        return {job["jid"]: job["state"] for job in sorted(jobs, key=lambda job: job["start-time"], reverse=True)}

    def job_id(self, job_name: str, *, timeout_s: float = 60) -> str:
        """The id of the newest job whose name begins with this and that has not ended; waits until there is one."""

        def newest() -> str:
            jobs = [job for job in self.get("/jobs/overview")["jobs"] if job["name"].startswith(job_name)]
            return str(max((job["start-time"], job["jid"]) for job in jobs if job["state"] not in _TERMINAL)[1])

        return self.run.wait_until(f"job {job_name}", newest, name="flink-job-manager", timeout_s=timeout_s)

    def wait_for_state(self, job_id: str, *states: str, timeout_s: float = 120) -> str:
        """Wait until the job is in one of the states, and return it."""

        def in_state() -> str:
            state = str(self.get(f"/jobs/{job_id}")["state"])
            if state not in states:
                if state in _TERMINAL:
                    raise ServiceError(f"job {job_id} is {state}\n{self.job_exceptions(job_id)}")
                raise LookupError(f"job {job_id} is {state}")
            return state

        what = f"job {job_id} in {' or '.join(states)}"
        return self.run.wait_until(what, in_state, name="flink-job-manager", timeout_s=timeout_s)

    def job_exceptions(self, job_id: str) -> str:
        """Why the job failed or was restarted, the newest first; empty when it never was."""
        history = self.get(f"/jobs/{job_id}/exceptions?maxExceptions=5")["exceptionHistory"]["entries"]
        return "\n\n".join(entry["stacktrace"] for entry in history)

    def completed_checkpoints(self, job_id: str) -> int:
        """How many checkpoints have completed."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def restored_checkpoints(self, job_id: str) -> int:
        """How often the job went on from a checkpoint."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["restored"])

    def restarts(self, job_id: str) -> int:
        """How often the job failed and was restarted."""
        # Not the metric numRestarts: fetching metrics hangs for 10 s on a task manager that has just been killed.
        history = self.get(f"/jobs/{job_id}/exceptions?maxExceptions={_HISTORY}")["exceptionHistory"]["entries"]
        return len(history)

    def late_drops(self, job_id: str) -> int:
        """How many records Beam has dropped as late, in grouping and in stateful DoFns.

        Of a running job only. No checkpoint has these counts: after a restart the old one stands until the next drop
        starts a new one, so there only the output tells. An operator has no such metric until it drops something.
        """
        return self.counter(job_id, _LATE_DROPS)

    def counter(self, job_id: str, name: str | tuple[str, ...]) -> int:
        """The sum of all metrics of a running job whose names end so (with one of them); 0 where there is none yet."""
        self._fetch_metrics(job_id)
        counted = 0
        running = [vertex for vertex in self.get(f"/jobs/{job_id}")["vertices"] if vertex["status"] == "RUNNING"]
        for vertex in running:  # what has finished has no metrics any more
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
            for found in [metric["id"] for metric in self._metrics(path) if metric["id"].endswith(name)]:
                (total,) = self.get(f"{path}?agg=sum&get={urllib.parse.quote(found)}")
                counted += int(total["sum"])
        return counted

    def _fetch_metrics(self, job_id: str) -> None:
        # A question about metrics is answered with what the one before it made the job manager fetch.
        self.get(f"/jobs/{job_id}/metrics")
        time.sleep(0.5)  # five times the interval of fetching

    def _metrics(self, path: str) -> Any:
        def some() -> Any:
            metrics = self.get(path)
            if not metrics:
                raise LookupError("no metrics yet")
            return metrics

        return self.run.wait_until(f"metrics of {path}", some, name="flink-job-manager", timeout_s=20)

    def cancel(self, job_id: str) -> None:
        """Cancel the job and wait until it has ended. Python's `result.cancel()` leaves it running."""
        with contextlib.suppress(LookupError):  # it may have ended meanwhile
            self.get(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        self.wait_for_state(job_id, *_TERMINAL)

    def restore(self) -> None:
        """Cancel all jobs, and go back to the number of task managers of the start."""
        for job_id, state in self.jobs().items():
            if state not in _TERMINAL:
                self.cancel(job_id)
        alive = self.task_manager_pids()
        for name in list(alive.values())[self.task_managers :]:
            self.run.stop(name)
        for _ in range(self.task_managers - len(alive)):
            self.start_task_manager()

    def get(self, path: str, *, method: str = "GET") -> Any:
        """The answer of the REST interface."""
        request = urllib.request.Request(self.rest_url + path, method=method)
        try:
            with _opener.open(request, timeout=10) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise LookupError(f"{method} {path}: {error.code} {text[:2000]}") from None

    def _spawn_task_manager(self) -> tuple[int, str]:
        # The log tells which names were taken, also by the dead: Flink must not take a new one for an old one.
        number = sum(1 for _ in self.run.path("logs").glob("flink-task-manager-*.log")) + 1
        name = f"flink-task-manager-{number}"
        arguments = ("--configDir", str(self.run.path("flink", "conf")), "-D", f"taskmanager.resource-id={name}")
        temporary = self.run.path("flink", "tmp")
        command = java(maven.class_path("flink"), _TASK_MANAGER, *arguments, heap="1g", temporary=temporary)
        return self.run.spawn(name, command).pid, name

    def _wait_for_task_manager(self, name: str) -> None:
        def registered() -> None:
            if name not in self.registered_task_managers():
                raise LookupError(f"{name} is not registered")

        self.run.wait_until(f"registration of {name}", registered, name=name)

    def _ask_overview(self) -> None:
        registered = self.get("/overview")["taskmanagers"]
        if registered < self.task_managers:
            raise LookupError(f"{registered} of {self.task_managers} task managers are registered")

    def _ask_job_server(self) -> None:
        with grpc.insecure_channel(self.job_endpoint) as channel:
            grpc.channel_ready_future(channel).result(timeout=2)


def flink_pipeline_options(
    job_endpoint: str,
    *,
    parallelism: int = 2,
    checkpointing_interval: timedelta | None = timedelta(seconds=2),
    worker_pool: str | None = None,
    streaming: bool = True,
    restarts: int | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """Command line options of a pipeline for the cluster.

    Args:
        job_endpoint: Of the cluster.
        parallelism: Subtasks of each operator.
        checkpointing_interval: None is no checkpoints. With checkpoints, Beam keeps even finished sources running: a
            streaming pipeline of bounded parts then never ends, unless "--shutdown_sources_after_idle_ms=0" is in `extra`.
        worker_pool: "host:port" of `workers.worker_pool`; None runs the Python code in this process (LOOPBACK).
        streaming: False is a batch job.
        restarts: How often a failing job is tried again; None is the cluster's setting, which is practically for ever.
            0 lets an error of the pipeline fail the test.
        extra: Further options, such as "--finish_bundle_before_checkpointing" or "--max_bundle_time_mills=100" (the
            default of 10 s keeps small outputs waiting).
    """
    options = ["--runner=PortableRunner", f"--job_endpoint={job_endpoint}", f"--parallelism={parallelism}"]
    if streaming:
        options.append("--streaming")
    if checkpointing_interval is not None:
        options.append(f"--checkpointing_interval={checkpointing_interval // timedelta(milliseconds=1)}")
    if restarts is not None:
        options.append(f"--number_of_execution_retries={restarts}")
    if worker_pool is None:
        options.append("--environment_type=LOOPBACK")
    else:
        options += ["--environment_type=EXTERNAL", f"--environment_config={worker_pool}"]
    return [*options, *extra]


def _write_configuration(run: Run, rest_port: int, metrics_port: int, slots: int) -> None:
    settings: Mapping[str, object] = {
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": free_port(),
        "jobmanager.bind-host": "localhost",
        "rest.address": "localhost",
        "rest.bind-address": "localhost",
        "rest.port": rest_port,
        "web.cancel.enable": "true",
        "taskmanager.host": "localhost",
        "taskmanager.bind-host": "localhost",
        "taskmanager.numberOfTaskSlots": slots,
        "cluster.evenly-spread-out-slots": "true",  # two task managers are there to be used
        # Started without Flink's scripts, which would compute these from the size of the process.
        "taskmanager.cpu.cores": slots,
        "taskmanager.memory.task.heap.size": "768m",
        "taskmanager.memory.task.off-heap.size": "0",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        "state.backend.type": "hashmap",
        "state.checkpoint-storage": "filesystem",
        "state.checkpoints.dir": run.path("flink", "checkpoints").as_uri(),
        # A killed task manager is noticed and replaced in seconds; a job survives as many as a test kills.
        "heartbeat.interval": 1_000,
        "heartbeat.timeout": 8_000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 1_000,
        "restart-strategy.fixed-delay.delay": "1 s",
        "web.exception-history-size": _HISTORY,
        "metrics.fetcher.update-interval": 100,
        # It has no setting for the interface: these ports listen on all of them.
        "metrics.reporter.prom.factory.class": "org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        "metrics.reporter.prom.port": f"{metrics_port}-{metrics_port + _METRICS_PORTS - 1}",
        "blob.service.cleanup.interval": 60,  # a job leaves its jars behind, 3 times 150 MB; in seconds
        "io.tmp.dirs": run.path("flink", "tmp"),
        "blob.storage.directory": run.path("flink", "tmp"),
    }
    lines = (f'{key}: "{value}"\n' for key, value in settings.items())
    (run.path("flink", "conf") / "config.yaml").write_text("".join(lines), encoding="utf-8")
