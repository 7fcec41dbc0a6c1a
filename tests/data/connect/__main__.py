"""Writes the files: `python -m tests.data.connect`. Needs java and mvn."""

import subprocess
from pathlib import Path

from integration.services.maven import copy_dependencies
from integration.services.tools import cached, require

_FOLDER = Path(__file__).parent


def main() -> None:
    jars = cached("jars/connect-3.9.1", lambda folder: copy_dependencies(_FOLDER / "pom.xml", folder))
    program = str(_FOLDER / "WriteConnectFiles.java")
    subprocess.run([require("java"), "-cp", f"{jars}/*", program, str(_FOLDER)], check=True)
    for checksum in _FOLDER.glob(".*.crc"):
        checksum.unlink()


if __name__ == "__main__":
    main()
