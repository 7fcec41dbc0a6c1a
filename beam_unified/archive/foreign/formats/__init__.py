"""Formats in which Kafka Connect's sinks write files: Avro, JSON, delimited bytes, CSV, Parquet. Pure: files in, values out.

A module each, with `read(file, size_bytes, convert, ...) -> Iterator[list]`: the file's values, `convert` of each, in lists that
are not empty; BadFileError where it is damaged or cut short, which says where. Memory is that of a list, or of one value and its
block where that is larger: `streams.MAX_RECORD_BYTES` of the file, and what `convert` makes of it.
"""
