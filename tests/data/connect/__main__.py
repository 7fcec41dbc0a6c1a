"""Writes the files: `python -m tests.data.connect`. Needs java and mvn."""

import subprocess
from pathlib import Path

from integration.services.tools import cached, require, run_tool

_FOLDER = Path(__file__).parent


def main() -> None:
    jars = cached("jars/connect-3.9.1", _copy_jars)
    program = str(_FOLDER / "WriteConnectFiles.java")
    subprocess.run([require("java"), "-cp", f"{jars}/*", program, str(_FOLDER)], check=True)
    for checksum in _FOLDER.glob(".*.crc"):
        checksum.unlink()


def _copy_jars(folder: object) -> None:
    run_tool([
        require("mvn"), "-q", "-B", "-f", str(_FOLDER / "pom.xml"), "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
