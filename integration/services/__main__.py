"""`python -m integration.services up|down|status|env [kafka] [s3] [registry] [flink] [prism]`: services that stay up for a while.

`eval "$(python -m integration.services env)"` tells a shell where those are that run, in the variables of the command line.

They belong to a run of their own ("cli"), apart from those of tests; with BEAM_UNIFIED_SERVICES=reuse, tests take these.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial

from integration.services import lifecycle
from integration.services.flink import FlinkCluster
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.services.prism import built_prism_program, prism_program
from integration.services.process import Run, named_run
from integration.services.registry import Registry
from integration.services.tools import ServiceError

_NAMES = ("kafka", "s3", "registry", "flink", "prism")
_BUCKET = "beam-unified"
_KINDS = {kind.name: kind for kind in (KafkaBroker, ObjectStore, Registry, FlinkCluster)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    run = named_run(options.run)
    names = options.services or _NAMES
    try:
        if options.command == "env":
            print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in _environment(run).items()))
            return 0
        for name in names:
            if options.command == "up":
                _up(name, run, options.task_managers, options.slots)
            elif options.command == "down" and name in _KINDS:
                lifecycle.stop(_KINDS[name], run)
            print(f"{name}: {_status(name, run)}")
        if options.command == "down" and not options.services:
            run.remove()
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _up(name: str, run: Run, task_managers: int, slots: int) -> None:
    if name == "flink":
        lifecycle.ensure(FlinkCluster, run, partial(FlinkCluster.start, task_managers=task_managers, slots=slots))
    elif name == "prism":
        prism_program()
    else:
        lifecycle.ensure(_KINDS[name], run)


def _environment(run: Run) -> dict[str, str]:
    """Of the services that run: what `beam-unified` reads, and the job server of Flink."""
    found = {}
    if (kafka := lifecycle.running(KafkaBroker, run)) is not None:
        found["BEAM_UNIFIED_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
    if (store := lifecycle.running(ObjectStore, run)) is not None:
        found["BEAM_UNIFIED_ARCHIVE"] = f"s3://{store.ensure_bucket(_BUCKET)}/archive"
        found["BEAM_UNIFIED_STORAGE_OPTIONS"] = json.dumps(store.storage_options)
    if (flink := lifecycle.running(FlinkCluster, run)) is not None:
        found["FLINK_JOB_ENDPOINT"] = flink.job_endpoint
    return found


def _status(name: str, run: Run) -> str:
    if name == "prism":
        program = built_prism_program()
        return f"a program, not a service: {'not built' if program is None else f'--prism_location={program}'}"
    service = lifecycle.running(_KINDS[name], run)
    if service is None:
        return "down"
    addresses = " ".join(f"{key}={value}" for key, value in lifecycle.addresses(service).items())
    pids = " ".join(f"{process}={pid}" for pid, process in run.processes(name).items())
    return f"up, {addresses}, pids {pids}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m integration.services", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "env"])
    parser.add_argument("services", nargs="*", choices=[*_NAMES, []], metavar="service", help=f"of {', '.join(_NAMES)}")
    parser.add_argument("--run", default="cli", help="name of the run; another name is another set of services")
    parser.add_argument("--task-managers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4, help="slots of each task manager")
    return parser


if __name__ == "__main__":
    sys.exit(main())
