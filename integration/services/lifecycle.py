"""Start a service once and find it again. Called by the command line and by the fixtures.

What a service answers decides, not what a file says: the file in the run's folder holds only addresses. When the
service does not answer, what is left of it is ended, and it is started anew.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from integration.services.process import Run
from integration.services.tools import locked


class Service(Protocol):
    """A frozen dataclass of addresses, and `run`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]

    def __init__(self, *, run: Run, **addresses: Any) -> None: ...

    @property
    def run(self) -> Run: ...

    @classmethod
    def start(cls, run: Run) -> Self: ...

    def ask(self) -> None:
        """Raises unless the service answers."""


S = TypeVar("S", bound=Service)


def running(kind: type[S], run: Run) -> S | None:
    """The service of that kind, if it is alive and answers."""
    state = _state(kind, run)
    if not state.exists() or not run.processes(kind.name):
        return None
    service = kind(run=run, **json.loads(state.read_text(encoding="utf-8")))
    try:
        service.ask()
    except Exception:  # noqa: BLE001 - whatever a client raises, it is not an answer
        return None
    return service


def ensure(kind: type[S], run: Run, start: Callable[[Run], S] | None = None) -> S:
    """The running service, or a new one. On failure nothing is left running.

    Args:
        kind: The class of the service.
        run: Where it lives.
        start: Starts it, if not `kind.start`.
    """
    with locked(run.path() / f"{kind.name}.lock"):
        found = running(kind, run)
        if found is not None:
            return found
        _clear(kind, run)
        try:
            service = (start or kind.start)(run)
        except BaseException:
            run.stop(kind.name)
            raise
        _state(kind, run).write_text(json.dumps(addresses(service)), encoding="utf-8")
        return service


def addresses(service: Service) -> dict[str, Any]:
    """What the service can be found by, as stored."""
    return {field.name: getattr(service, field.name) for field in fields(service) if field.name != "run"}


def stop(kind: type[S], run: Run) -> None:
    """End the service and remove its data; its logs stay."""
    with locked(run.path() / f"{kind.name}.lock"):
        _clear(kind, run)


def _clear(kind: type[Service], run: Run) -> None:
    run.stop(kind.name)
    _state(kind, run).unlink(missing_ok=True)
    shutil.rmtree(run.directory / kind.name, ignore_errors=True)


def _state(kind: type[Service], run: Run) -> Path:
    return run.path() / f"{kind.name}.json"
