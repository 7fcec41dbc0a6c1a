"""Mutation testing of the pure modules: `tox run -e mutants`, or `python -m mutation`. See docs/mutation.md."""
