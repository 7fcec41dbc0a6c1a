"""The archive half of the log: files in layout A1 on any fsspec file system, read through their commit objects."""
