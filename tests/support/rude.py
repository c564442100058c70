"""A server that sends whatever bytes it was given, for tests of what reads them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

GOOD = b'{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


@dataclass
class Rude:
    """A server that sends the bytes it was given, and keeps what it was sent."""

    url: str
    requests: list[bytes]
    sent: int = 0


@asynccontextmanager
async def rude(*pieces: bytes, times: int = 1) -> AsyncIterator[Rude]:
    """Answer each request with the pieces, the last of them `times` over; then close the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            server.requests.append(head)
            for piece in (*pieces[:-1], *[pieces[-1]] * times):
                writer.write(piece)
                await writer.drain()
                server.sent += len(piece)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    server = Rude(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", [])
    try:
        yield server
    finally:
        listening.close()


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An HTTP answer with its length and these headers."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
