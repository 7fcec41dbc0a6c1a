"""The program: its commands, and how it ends. A command gives an exit code, or None for 0; errors become codes here alone."""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from beam_unified.cli import exits
from beam_unified.errors import UnifiedLogError

_NAMES = ("positions", "cat", "plan", "verify", "snapshot", "archive", "watch", "throttle")


class _Commands(click.Group):
    """Imports a command when it is asked for: completion and `--version` need not wait for Kafka's and Arrow's libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _NAMES:
            return None
        command: click.Command = importlib.import_module(f"beam_unified.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Before click sees it: that would make another exit code of it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is left in the buffer must not be tried again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return exits.PIPE_CLOSED
        return result


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="beam-unified")
@click.option(
    "--verbose", "-v", count=True, help="Say more on standard error; twice for what the client libraries say."
)
@click.pass_context
def program(ctx: click.Context, verbose: int) -> None:
    """The unlimited log of a Kafka topic: archived files first, then Kafka. Guide and exit codes: docs/cli.md."""
    root, ours = logging.getLogger(), logging.getLogger("beam_unified")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(lambda record: verbose > 1 or record.name.startswith(ours.name))
    levels = root.level, ours.level
    root.addHandler(handler)
    if verbose:
        (root if verbose > 1 else ours).setLevel(logging.INFO)

    @ctx.call_on_close
    def restored() -> None:
        root.removeHandler(handler)
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def main(arguments: Sequence[str] | None = None, *, obj: object = None) -> int:
    """Runs a command line; gives the exit code. `obj` takes the place of the stores that options describe, for tests."""
    try:
        result = program.main(
            args=None if arguments is None else list(arguments),
            prog_name="beam-unified",
            standalone_mode=False,
            obj=obj,
        )
    except click.Abort:
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return exits.USAGE
    except UnifiedLogError as error:
        click.echo(f"error: {error}", err=True)
        return exits.exit_code(error)
    except Exception:  # noqa: BLE001 - whatever it is, it ends here
        traceback.print_exc()
        return exits.UNEXPECTED
    return result if isinstance(result, int) else exits.DONE


def entry() -> None:
    """The console script."""
    sys.exit(main())
