"""Fixtures of the integration tests: services that start when the first test asks for them, and end with the session.

Each session has its own services. With BEAM_UNIFIED_SERVICES=reuse it takes those of `python -m integration.services up`
when they are up, and leaves them up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from beam_unified.archiver import pool as archivers
from beam_unified.kafka import group_commits
from beam_unified.kafka.producers import WRITERS
from beam_unified.source import pool
from integration.services import lifecycle, workers
from integration.services.flink import FlinkCluster
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.services.prism import prism_program
from integration.services.process import Run, named_run, remove_abandoned_runs
from integration.services.registry import Registry
from integration.services.secure_kafka import SecureKafka
from integration.services.tools import ToolMissingError

_S = TypeVar("_S", bound=lifecycle.Service)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are integration tests."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the logs are."""
    logs = _session_run().directory / "logs"
    if logs.exists():
        terminalreporter.write_line(f"Logs of the services: {logs}")


@pytest.fixture(scope="session")
def service_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The folder and the processes of this session. When a test has failed, the logs stay until the next session."""
    remove_abandoned_runs()
    run = _session_run()
    try:
        yield run
    finally:
        run.stop()
        if not request.session.testsfailed:
            run.remove()


@pytest.fixture(scope="session")
def kafka(service_run: Run) -> Iterator[KafkaBroker]:
    """A broker: `bootstrap_servers`, `create_topic`, `delete_topic`, `delete_records`, `admin()`."""
    with _service(KafkaBroker, service_run) as broker:
        yield broker


@pytest.fixture(scope="session")
def secure_kafka(service_run: Run) -> Iterator[SecureKafka]:
    """A broker with a listener for each kind of security: `listeners`, `pem`, `restrict`, passwords; and what `kafka` has."""
    with _service(SecureKafka, service_run) as broker:
        yield broker


@pytest.fixture(scope="session")
def object_store(service_run: Run) -> Iterator[ObjectStore]:
    """An S3 server: `endpoint_url`, `access_key`, `secret_key`, `storage_options`, `make_bucket`."""
    with _service(ObjectStore, service_run) as store:
        yield store


@pytest.fixture(scope="session")
def registry(service_run: Run) -> Iterator[Registry]:
    """A schema registry: `url`, of Confluent's API."""
    with _service(Registry, service_run) as found:
        yield found


@pytest.fixture(scope="session")
def flink(service_run: Run) -> Iterator[FlinkCluster]:
    """A cluster of one task manager with four slots: `rest_url`, `job_endpoint`, and see the class.

    It is left idle after each test: what still runs is cancelled, killed task managers are replaced.
    """
    with _service(FlinkCluster, service_run) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def prism() -> Path:
    """The program, for `--prism_location`."""
    with _skipped_without_tools():
        return prism_program()


@pytest.fixture
def worker_pool(service_run: Run) -> Iterator[str]:
    """Python workers as processes of their own: "host:port" for `flink_pipeline_options(worker_pool=...)`."""
    with workers.worker_pool(service_run) as address:
        yield address


@pytest.fixture(autouse=True)
def _flink_left_idle(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "flink" in request.fixturenames:
        request.getfixturevalue("flink").restore()
        archivers.close_all()
        WRITERS.close_all()
        group_commits.close_all()
        pool.close_all()  # workers in this process that were killed or cancelled have not been torn down


def _session_run() -> Run:
    return named_run(f"pytest-{os.getpid()}")


@contextmanager
def _service(kind: type[_S], run: Run) -> Iterator[_S]:
    if os.environ.get("BEAM_UNIFIED_SERVICES") == "reuse":
        found = lifecycle.running(kind, named_run("cli"))
        if found is not None:
            yield found
            return
    with _skipped_without_tools():
        service = lifecycle.ensure(kind, run)
    try:
        yield service
    finally:
        lifecycle.stop(kind, run)


@contextmanager
def _skipped_without_tools() -> Iterator[None]:
    try:
        yield
    except ToolMissingError as error:
        if os.environ.get("CI", "").lower() in {"true", "1"}:
            pytest.fail(str(error))
        pytest.skip(str(error))
