"""Beam's Prism runner: a program that `PrismRunner` starts by itself (`--prism_location`), not a service of ours.

Called by the command line and by the `prism` fixture.
"""

from pathlib import Path

from integration.services.golang import program

_PACKAGE = "github.com/apache/beam/sdks/v2/go/cmd/prism"
_VERSION = "v2.77.0"  # goes with apache-beam 2.77


def prism_program() -> Path:
    """Where the program is; built when it is not there yet."""
    return program(_PACKAGE, _VERSION)
