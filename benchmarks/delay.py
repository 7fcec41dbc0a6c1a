"""A TCP proxy that adds latency: `python -m benchmarks.delay HOST PORT SECONDS` prints its own port and runs until it is ended.

Each burst of a client's that comes after a silence, a request, waits before it is passed on. Bandwidth is not limited. A
process of its own, because one interpreter would make reader and proxy wait for each other.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BYTES = 1 << 18


@contextmanager
def delayed(host: str, port: int, seconds: float) -> Iterator[int]:
    """A proxy to `host:port`; gives its port on the loopback address.

    Args:
        host: Of the server.
        port: Of the server.
        seconds: What a request takes longer.
    """
    command = [sys.executable, "-m", "benchmarks.delay", host, str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None, "it is a pipe"
            yield int(proxy.stdout.readline())
        finally:
            proxy.terminate()


async def serve(host: str, port: int, seconds: float) -> None:
    """Runs for ever."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port, limit=_BYTES)
        for task in (_pass(reader, there_writer, seconds), _pass(there_reader, writer, 0)):
            running = asyncio.create_task(task)
            tasks.add(running)
            running.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Copies one direction."""
    loop = asyncio.get_running_loop()
    quiet_since = float("-inf")
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BYTES):
            if loop.time() - quiet_since > seconds / 2:
                await asyncio.sleep(seconds)
            quiet_since = loop.time()
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
