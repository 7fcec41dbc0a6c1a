"""`python -m beam_unified.cli`: the program, where its console script is not on the path."""

from beam_unified.cli.app import entry

if __name__ == "__main__":
    entry()
