"""The command line, `beam-unified`: one module a command, each a thin edge over the core (docs/cli.md)."""
