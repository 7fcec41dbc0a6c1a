"""Writes the files. Needs java and mvn."""

import base64
import gzip
import shutil
import subprocess
from collections import defaultdict
from datetime import UTC, datetime

from integration.services.maven import copy_dependencies
from integration.services.tools import cached, require
from tests.data.secor import FOLDER, SYNCED, TOPIC, key_of, timestamp_of, value_of

_GZIP, _DEFAULT = "org.apache.hadoop.io.compress.GzipCodec", "org.apache.hadoop.io.compress.DefaultCodec"
_BATCHES = [  # partition, start, stop, compression, codec, extension
    (0, 0, 80, "BLOCK", _GZIP, ".gz"),
    (0, 60, 120, "BLOCK", _DEFAULT, ".deflate"),
    (0, 120, 150, "NONE", "-", ""),
    (1, 0, 40, "RECORD", _DEFAULT, ""),
]


def main() -> None:
    lines = []
    for keys in ("offset", "message_pack"):
        root = FOLDER / keys / TOPIC
        shutil.rmtree(root, ignore_errors=True)
        for partition, start, stop, compression, codec, extension in _BATCHES:
            folders = defaultdict(list)
            for offset in range(start, stop):
                hour = datetime.fromtimestamp(timestamp_of(offset) // 1_000, UTC)
                folders[hour.strftime("dt=%Y-%m-%d/hr=%H")].append(offset)
            for folder, offsets in folders.items():
                path = root / folder / f"1_{partition}_{start:020d}{extension}"
                path.parent.mkdir(parents=True, exist_ok=True)
                lines.append(f"file\t{path}\t{'long' if keys == 'offset' else 'msgpack'}\t{compression}\t{codec}")
                lines += [_line(partition, offset) for offset in offsets]
    lines.append(f"file\t{SYNCED}\tlong\tNONE\t-")
    lines += [f"{offset}\t-\t-\t{base64.b64encode(b'%0200d' % offset).decode()}" for offset in range(1_200)]
    jars = cached("jars/hadoop-3.4.1", lambda folder: copy_dependencies(FOLDER / "pom.xml", folder))
    command = [require("java"), "-cp", f"{jars}/*", str(FOLDER / "WriteSequenceFiles.java")]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)
    SYNCED.with_name(f"{SYNCED.name}.gz").write_bytes(gzip.compress(SYNCED.read_bytes(), mtime=0))
    SYNCED.unlink()
    SYNCED.with_name(f".{SYNCED.name}.crc").unlink()


def _line(partition: int, offset: int) -> str:
    key, value = key_of(offset), value_of(partition, offset)
    packed = "-" if key is None else base64.b64encode(key).decode()
    return f"{offset}\t{packed}\t{timestamp_of(offset)}\t{base64.b64encode(value).decode()}"


if __name__ == "__main__":
    main()
