"""Looks at a place and proposes what layout its files have, with the evidence. It decides nothing: the user does.

To teach it a layout, add a function to `DETECTORS`: files below a root -> proposals.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.json_envelope import JsonEnvelope
from beam_unified.archive.foreign.layout import Layout, OpenFile, is_marker
from beam_unified.archive.foreign.secor import Secor, hashed_prefix
from beam_unified.archive.foreign.sequence_file import Keys, keys_of
from beam_unified.archive.foreign.template import lenses
from beam_unified.archive.layout import parse_commit
from beam_unified.archive.storage import Storage
from beam_unified.errors import ConfigError

_LOOKED_AT = 1_000
_SHOWN = 3
_SECOR = re.compile(r"[0-9]{1,9}_[0-9]{1,9}_[0-9]{20}(\..*)?")
_MSK = re.compile(r"(.*/)?[^/]+/(?P<topic>[^/]+)/year=\d{4}/month=\d\d/day=\d\d/hour=\d\d/(?P=topic)\+\d+\+\d{18}-.*")
_LENSES = re.compile(r"(?P<prefix>(?:.*/)?)(?P<topic>[^/]+)/\d+/\d+_\d+_\d+\.(?P<extension>[^/]+)")
_CONFLUENT = re.compile(
    r"(?:(?P<dir>.*?)/)?(?P<topic>[^/]+)/(?:.*/)?(?P=topic)\+\d+\+\d{10,19}(?P<last>\+\d{10,19})?"
    r"(?P<extension>(?:\.[a-z0-9]+)+)"
)
_CONFLUENT_FORMATS = {"avro", "json", "parquet"}
_AIVEN = re.compile(r"(?:.*/)?(?P<topic>[a-zA-Z0-9._-]+)-\d+-\d+(?:\.gz|\.snappy|\.zst)?")
_MAGIC = {b"PAR1": "Parquet", b"Obj\x01": "Avro", b"SEQ\x06": "a SequenceFile", b"\x1f\x8b": "gzip", b"ORC": "ORC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A layout that may be the one.

    Attributes:
        layout: To be passed to `Archive`; None where the user must say more first, or cannot read these files.
        code: The same, as one writes it.
        topics: Those that were seen.
        evidence: Why: what was counted, what was looked into.
        doubts: What speaks against it, and what only the user can know.
    """

    layout: Layout | None
    code: str
    topics: tuple[str, ...]
    evidence: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What was found. `str()` of it is for people.

    Attributes:
        root: Where.
        proposals: The most files first; more than one where several layouts are mixed, or fit.
        unexplained: Files that no proposal explains: some of them.
    """

    root: str
    proposals: tuple[Proposal, ...]
    unexplained: tuple[str, ...]

    def only(self) -> Layout:
        """The layout, where there is exactly one proposal, without doubts, that explains every file. Else ConfigError."""
        if len(self.proposals) != 1 or self.unexplained or self.proposals[0].doubts or self.proposals[0].layout is None:
            raise ConfigError(f"{self}\nName the layout yourself: Archive({self.root!r}, layout=...).")
        return self.proposals[0].layout

    def __str__(self) -> str:
        lines = [f"{self.root}: {len(self.proposals) or 'no'} layout{'' if len(self.proposals) == 1 else 's'} proposed"]
        for one in self.proposals:
            lines.append(f"  {one.code}, topics {', '.join(one.topics)}")
            lines += [f"    + {reason}" for reason in one.evidence]
            lines += [f"    ? {doubt}" for doubt in one.doubts]
        if self.unexplained:
            lines.append(f"  not explained, for example: {', '.join(self.unexplained)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Look:
    """What a detector gets: paths below the root (markers and hidden files left out, but for `_commits`), and a way into them."""

    paths: Sequence[str]
    open_file: OpenFile

    def magic(self, path: str) -> str:
        """What a file begins as."""
        file, _ = self.open_file(path)
        with file:
            head = file.read(4)
        return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), f"bytes {head!r}")

    def count(self, found: int) -> str:
        """So many of all."""
        return f"{found} of {len(self.paths)} files"


Found = tuple[Proposal, Sequence[str]]
"""A proposal, and the paths that it explains."""

Detector = Callable[[Look], Iterator[Found]]


def detect_layout(root: str, storage_options: Mapping[str, Any] | None = None) -> Detection:
    """Looks at the first thousand files below a root and at the beginning of a few; writes nothing.

    Args:
        root: fsspec URL of the folder above the topics: what would be `Archive`'s.
        storage_options: As of `Archive`.

    Raises:
        ArchiveUnavailableError: the storage does not answer.
        ConfigError: there is no file at all.
    """
    storage = Storage(root, storage_options or {})
    listed = storage.files_after("", "", limit=_LOOKED_AT)
    paths = [path for path in listed if _is_ours(path) or not is_marker(path)]
    if not paths:
        raise ConfigError(f"{root}: there is no file to look at. Check the bucket and the folder above the topics.")

    def open_file(path: str) -> tuple[pa.NativeFile, int]:
        return storage.open(path)

    look = Look(paths, open_file)
    found = sorted((one for detect in DETECTORS for one in detect(look)), key=lambda one: -len(one[1]))
    explained = {path for _, some in found for path in some}
    unexplained = [path for path in paths if path not in explained]
    return Detection(root=root, proposals=tuple(one for one, _ in found), unexplained=tuple(unexplained[:_SHOWN]))


def _is_ours(path: str) -> bool:
    return "/_commits/" in path and parse_commit(path.rpartition("/")[2]) is not None


def _own(look: Look) -> Iterator[Found]:
    commits = [path for path in look.paths if _is_ours(path)]
    if commits:
        topics = _topics(path.partition("/_commits/")[0] for path in commits)
        data = [
            path for path in look.paths if path.endswith(".parquet") and path.startswith(tuple(f"{t}/" for t in topics))
        ]
        evidence = (f"{len(commits)} commit objects, such as {commits[0]}",)
        yield (
            Proposal(layout=None, code="our own layout: no layout=", topics=topics, evidence=evidence),
            [*commits, *data],
        )


def _secor(look: Look) -> Iterator[Found]:
    plain, hashed = list[str](), dict[str, list[str]]()
    for path in look.paths:
        *folders, name = path.split("/")
        if not _SECOR.fullmatch(name) or len(folders) < 2:
            continue
        tails = [at for at in range(1, len(folders)) if hashed_prefix(folders[at:]) == folders[0]]
        if tails:
            hashed.setdefault("/".join(folders[1 : tails[0]]), []).append(path)
        else:
            plain.append(path)
    for above, paths in [(None, plain), *hashed.items()]:
        if paths:
            yield _of_secor(look, above, paths), paths


def _of_secor(look: Look, above: str | None, paths: Sequence[str]) -> Proposal:
    skipped = 0 if above is None else 1 + len([part for part in above.split("/") if part])
    topics = _topics(path.split("/")[skipped] for path in paths)
    named = f"{look.count(len(paths))} are named <generation>_<partition>_<20 digits>, such as {paths[0]}"
    evidence = [named] if above is None else [named, "their first folder is the md5 of the rest of the path"]
    keys = Counter[Keys]()
    for path in (paths[0], paths[-1]):
        try:
            file, size = look.open_file(path)
            with file:
                keys[keys_of(file, size)] += 1
        except BadFileError as error:
            doubt = f"{path} is {look.magic(path)}, which holds no offsets of Secor's and cannot be read: {error}"
            return Proposal(
                layout=None, code="Secor, but no SequenceFile", topics=topics, evidence=tuple(evidence), doubts=(doubt,)
            )
    best = keys.most_common(1)[0][0]
    evidence.append(f"the first and the last are SequenceFiles with keys of {' and of '.join(keys)}")
    doubts = () if len(keys) == 1 else ("files with both kinds of keys: a root for each is needed",)
    layout = Secor(keys=best, hashed_path=above)
    return Proposal(layout=layout, code=_code(layout), topics=topics, evidence=tuple(evidence), doubts=doubts)


def _code(layout: Secor) -> str:
    options = [] if layout.keys == "offset" else [f"keys={layout.keys!r}"]
    options += [] if layout.hashed_path is None else [f"hashed_path={layout.hashed_path!r}"]
    return f"Secor({', '.join(options)})"


def _msk(look: Look) -> Iterator[Found]:
    found = {path: match for path in look.paths if (match := _MSK.fullmatch(path)) is not None}
    if found:
        first = next(iter(found))
        yield (
            Proposal(
                layout=None,
                code="msk_delivery(ValueLines(), dense=True)",
                topics=_topics(match["topic"] for match in found.values()),
                evidence=(f"{look.count(len(found))} are named as MSK's delivery does by default, such as {first}",),
                doubts=(
                    f"whether a value a line is the format must be said: {first} begins as {look.magic(first)}",
                    "names hold first offsets only: whether every offset has a record is for you to know (dense=True)",
                ),
            ),
            list(found),
        )


def _confluent(look: Look) -> Iterator[Found]:
    by_form = dict[tuple[str, str, bool], dict[str, str]]()
    for path in look.paths:
        match = _CONFLUENT.fullmatch(path)
        if match is not None:
            form = (match["dir"] or "", match["extension"], match["last"] is not None)
            by_form.setdefault(form, {})[path] = match["topic"]
    for (folder, extension, both), found in by_form.items():
        first, kind = next(iter(found)), extension.removesuffix(".gz").rpartition(".")[2]
        options = [f"format={kind if kind in _CONFLUENT_FORMATS else 'bytes'!r}"]
        options += ["ends='names'"] if both else []
        options += [] if folder == "topics" else [f"topics_dir={folder!r}"]
        doubts = ["its options must be said, see Confluent: partitioner, keys, headers, compression"]
        if not both:
            doubts.append("where files end is in their tags (ends='tags'), or for you to know (dense=True)")
        proposal = Proposal(
            layout=None,
            code=f"Confluent({', '.join(options)}, ...)",
            topics=_topics(found.values()),
            evidence=(f"{look.count(len(found))} are named <topic>+<partition>+<offset>{extension}, such as {first}",),
            doubts=tuple(doubts),
        )
        yield proposal, list(found)


def _aiven(look: Look) -> Iterator[Found]:
    found = {path: match for path in look.paths if (match := _AIVEN.fullmatch(path)) is not None}
    if found:
        first = next(iter(found))
        proposal = Proposal(
            layout=None,
            code="Aiven(format=..., fields=...)",
            topics=_topics(match["topic"] for match in found.values()),
            evidence=(f"{look.count(len(found))} are named <topic>-<partition>-<offset>, such as {first}",),
            doubts=(f"format and fields must be said: {first} begins as {look.magic(first)}",),
        )
        yield proposal, list(found)


def _lenses(look: Look) -> Iterator[Found]:
    by_prefix = dict[tuple[str, str], dict[str, str]]()
    for path in look.paths:
        match = _LENSES.fullmatch(path)
        if match is not None:
            by_prefix.setdefault((match["prefix"], match["extension"]), {})[path] = match["topic"]
    for (prefix, extension), found in by_prefix.items():
        first = next(iter(found))
        evidence = [f"{look.count(len(found))} are named <topic>/<partition>/<offset>_<time>_<time>, such as {first}"]
        envelope = JsonEnvelope("gzip") if extension.endswith("gz") else JsonEnvelope()
        layout, doubts = lenses(envelope, prefix=prefix), list[str]()
        try:
            file, size = look.open_file(first)
            with file:
                next(iter(envelope.read(file, size)), None)
            evidence.append("the first holds JSON envelopes with metadata.offset")
        except BadFileError as error:
            doubts.append(f"the first is no JSON envelope ({error}): without store.envelope=true there are no offsets")
        code = f"lenses({envelope!r}{f', prefix={prefix!r}' if prefix else ''})"
        topics = _topics(found.values())
        proposed = None if doubts else layout
        yield (
            Proposal(layout=proposed, code=code, topics=topics, evidence=tuple(evidence), doubts=tuple(doubts)),
            list(found),
        )


def _topics(names: Iterator[str] | Sequence[str] | Any) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


DETECTORS: list[Detector] = [_own, _secor, _msk, _lenses, _confluent, _aiven]
