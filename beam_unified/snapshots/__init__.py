"""Data sets that can be named, kept and replayed: what of a log is pinned, how it is taken and how it is written down."""
