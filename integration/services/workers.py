"""Beam's Python worker pool as a process of its own, for `--environment_type=EXTERNAL`. Called by tests.

The pool starts a process for each worker that the runner asks for. The runner deals workers out to subtasks in turn, so
two subtasks may share one: a test that needs two processes uses two task managers, and checks the pids.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from integration.services.process import Run, free_port

_REPOSITORY = Path(__file__).parents[2]


@contextmanager
def worker_pool(run: Run) -> Iterator[str]:
    """Start a pool, give its "host:port", and end it with all its workers.

    Workers import from the root of the repository, and by the pool's own Python: the pool starts them as `python`.
    What they print is read by nobody, and blocks them after 64 KiB: log instead.
    """
    port = free_port()
    name = f"workers-{port}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    python_path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")]))
    module = "apache_beam.runners.worker.worker_pool_main"
    environment = {"PATH": path, "PYTHONPATH": python_path}
    try:
        run.spawn(name, [sys.executable, "-m", module, f"--service_port={port}"], environment=environment)

        def ask() -> None:
            with grpc.insecure_channel(f"localhost:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=2)

        run.wait_until("answer of the worker pool", ask, name=name)
        yield f"localhost:{port}"
    finally:
        run.stop(name)
