"""Pipelines to run and to read; no part of the package that is installed."""
