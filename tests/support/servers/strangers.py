"""Something on a port that speaks RESP and is no Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def answering(reply: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Something on a port that speaks RESP and is no Valkey. Gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            writer.write(reply(said))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"valkey://127.0.0.1:{server.sockets[0].getsockname()[1]}"


_HELLO = b"*4\r\n$6\r\nserver\r\n$1\r\n\xff\r\n$7\r\nversion\r\n$1\r\n\xff\r\n"
REPLIES: dict[str, Callable[[bytes], bytes]] = {
    "an echo": lambda said: said,
    "always OK": lambda said: b"+OK\r\n" * said.count(b"*"),
    "always one": lambda said: b":1\r\n" * said.count(b"*"),
    "always nothing": lambda said: b"$-1\r\n" * said.count(b"*"),
    "an empty list": lambda said: b"*0\r\n" * said.count(b"*"),
    "no text": lambda said: _HELLO * said.count(b"*"),
}
