"""Tests of what operators run beside a job. `tox run -e ops` runs them, `python -m pytest` does not."""
