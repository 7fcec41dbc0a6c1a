"""One log out of two stores: which store serves an offset, and a reader that goes through both."""
