"""Files that other tools wrote. So far the SequenceFile of Secor, which no layout uses yet (docs/guarantees.md, A3)."""
