"""Speed, as ratios against plain loops in the same run. `tox run -e bench`, or `python -m benchmarks`."""
