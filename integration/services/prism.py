"""Beam's Prism runner: a program that `PrismRunner` starts by itself (`--prism_location`), not a service of ours.

Called by the command line and by the `prism` fixture.
"""

from pathlib import Path

from integration.services.golang import built_program, program

_PACKAGE = "github.com/apache/beam/sdks/v2/go/cmd/prism"
_VERSION = "v2.77.0"  # goes with apache-beam 2.77


def prism_program() -> Path:
    """Where the program is; built when it is not there yet."""
    return program(_PACKAGE, _VERSION)


def built_prism_program() -> Path | None:
    """Where the program is, if it has been built."""
    return built_program(_PACKAGE, _VERSION)
