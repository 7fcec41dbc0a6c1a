"""What every batch must be, whichever store it comes from. Used by both contract suites."""

import itertools

from beam_unified.records import Batch, Record, Store


def checked(batch: Batch, store: Store) -> list[Record]:
    """The records of a batch, after everything that `records.Batch` promises has been compared."""
    found = list(batch.records())
    assert batch.store is store
    assert len(batch) == len(found) > 0
    assert list(batch.iter_records()) == found
    assert list(batch.offsets()) == [record.offset for record in found]
    assert list(batch.timestamps()) == [record.timestamp for record in found]
    assert list(batch.values()) == [record.value for record in found]
    assert batch.last_offset() == found[-1].offset
    assert all(one.offset < other.offset for one, other in itertools.pairwise(found))
    assert all(record.store == store.value for record in found)
    assert all((record.timestamp is None) == (record.timestamp_type is None) for record in found)
    assert all(type(record) is Record and type(record.headers) is tuple for record in found)
    least = sum(len(record.key or b"") + len(record.value or b"") for record in found)
    assert batch.size_bytes() >= least  # tombstones have keys; rates and metrics go by this
    assert batch.size_bytes() <= 10 * least + 200 * len(found)
    _check_between(batch, found)
    return found


def _check_between(batch: Batch, found: list[Record]) -> None:
    """Any cut gives exactly the records inside of it, and leaves the batch as it was."""
    first, last = found[0].offset, found[-1].offset
    for start in {first - 1, first, first + 1, last, last + 1} - {-1}:
        for stop in {None, first, first + 1, last, last + 1, last + 2}:
            cut = batch.between(start, stop)
            wanted = [r for r in found if r.offset >= start and (stop is None or r.offset < stop)]
            assert len(cut) == len(wanted)
            assert list(cut.records()) == wanted
            assert list(cut.offsets()) == [record.offset for record in wanted]
            assert list(cut.values()) == [record.value for record in wanted]
    assert len(batch) == len(found)
