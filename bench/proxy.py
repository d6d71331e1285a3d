"""A TCP proxy on loopback that delays each direction: ``python -m bench.proxy PORT TARGET MS``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

_CHUNK = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Passes on every chunk ``delay`` seconds after it came; chunks do not wait for one another."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def send() -> None:
        while True:
            due, chunk = await chunks.get()
            await asyncio.sleep(due - loop.time())
            if not chunk:
                break
            writer.write(chunk)
        writer.close()

    sender = asyncio.create_task(send())
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            chunks.put_nowait((loop.time() + delay, chunk))
    chunks.put_nowait((loop.time() + delay, b""))
    await sender


async def serve(port: int, target: int, delay: float) -> asyncio.Server:
    """Listens on ``port`` of 127.0.0.1 for the server on ``target``; ``delay`` in seconds."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer, delay), _pump(far_reader, writer, delay))

    return await asyncio.start_server(relay, "127.0.0.1", port)


async def _main(port: int, target: int, delay: float) -> None:
    server = await serve(port, target, delay)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
