"""`python -m beam_unified.yaml`: the path of `providers.yaml`, for `include` in a pipeline file."""

import sys
from pathlib import Path

sys.stdout.write(f"{Path(__file__).with_name('providers.yaml')}\n")
