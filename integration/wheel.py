"""`python -m integration.wheel DIST`: the demo, from the wheel in DIST, in a new environment, where no source can be imported.

What a user gets from an index, tried before it is there: missing modules, data files and dependencies show here only.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_WHERE = "import beam_unified; print(beam_unified.__file__)"


def main() -> int:
    """Installs, looks where the package comes from, runs the demo. Returns the demo's exit code."""
    parser = argparse.ArgumentParser(prog="python -m integration.wheel", description=__doc__)
    parser.add_argument("dist", type=Path)
    wheels = sorted(parser.parse_args().dist.glob("beam_unified-*.whl"))
    if len(wheels) != 1:
        parser.error(f"one wheel is expected, found {len(wheels)}")
    with tempfile.TemporaryDirectory() as folder:
        fresh, elsewhere = Path(folder, "environment"), Path(folder, "elsewhere")
        venv.create(fresh, with_pip=True)
        python = fresh / "bin" / "python"
        _run([python, "-m", "pip", "install", "--quiet", f"beam-unified[demo] @ {wheels[0].resolve().as_uri()}"], _ROOT)
        shutil.copytree(_ROOT / "pipelines", elsewhere / "pipelines")
        found = Path(subprocess.check_output([python, "-c", _WHERE], cwd=elsewhere, text=True).strip())
        if not found.is_relative_to(fresh):
            raise AssertionError(f"beam_unified came from {found}, not from the wheel")
        _run([python, "-m", "pipelines.flights_demo"], elsewhere)
    return 0


def _run(command: list[str | Path], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main())
