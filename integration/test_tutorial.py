"""docs/tutorial.md, typed in as it stands there."""

import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r'^```(?:bash|python title="(?P<file>[a-z.]+)")\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
_RUN = "python -m integration.services"


def test_the_tutorial(tmp_path):
    """Every command of the page works, in its order, and both runs count every pin of the week, over both stores."""
    page = (_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    commands: list[str] = []
    for block in _BLOCK.finditer(page):
        if block["file"] is not None:
            (tmp_path / block["file"]).write_text(block["text"], encoding="utf-8")
        else:
            commands.append(block["text"])
    run = f"tutorial-{uuid.uuid4().hex[:6]}"  # not the services that somebody on this machine may have up
    counted = "runs=$((runs + 1)); cat pins-by-board-* > counted-$runs.txt; rm pins-by-board-*"
    script = "\n".join(commands).replace(_RUN, f"{_RUN} --run {run}")
    script = re.sub(r"^(cat pins-by-board.*)$", rf"\1\n{counted}", script, flags=re.MULTILINE)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(_ROOT),
    }
    try:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    finally:
        subprocess.run(
            [sys.executable, "-m", "integration.services", "down", "--run", run],
            cwd=_ROOT,
            check=True,
            capture_output=True,
        )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-5_000:]
    assert re.search(
        r"^8638 .*\(archive\)\n8639 .*\(archive\)\n8640 .*\(kafka\)\n8641 .*\(kafka\)$", done.stdout, re.MULTILINE
    ), done.stdout
    for number in (1, 2):
        lines = (tmp_path / f"counted-{number}.txt").read_text(encoding="utf-8").splitlines()
        pins = Counter[str]()
        for line in lines:
            _, board, count = line.split()
            pins[board] += int(count)
        assert len(lines) == 7 * 24 * 3
        assert pins == {"boats": 3_360, "cakes": 3_360, "cats": 3_360}
