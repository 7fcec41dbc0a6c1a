"""Formats in which Kafka Connect's sinks write files: Avro, JSON, delimited bytes, CSV, Parquet. A module each, and pure: files in, values out.

Each has `read(file, size_bytes, convert, ...) -> Iterator[list]`: the file's values, `convert` of each, in lists that are not
empty; BadFileError where it is damaged or cut short, which says at what byte or record. Memory is that of a list, or of one
value and its block where that is larger: `streams.MAX_RECORD_BYTES` of the file, and what `convert` makes of it.
"""
