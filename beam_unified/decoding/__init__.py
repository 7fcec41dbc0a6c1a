"""From the bytes of a value to what users work with: decoders, and what becomes of records that have no meaning."""
