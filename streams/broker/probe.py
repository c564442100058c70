"""Asks a broker whether it answers."""

import socket
import struct

API_VERSIONS = 18
ANSWER_BYTES = 64 * 1024


def answers(port: int, timeout_seconds: float = 2.0) -> bool:
    """Whether a Kafka broker on 127.0.0.1 answers an ApiVersions request (version 0) within the time-out.

    A broker takes connections before it serves them; it answers only once it is up.
    Source: Kafka protocol guide, request header v1.
    """
    name = b"callstream"
    body = struct.pack(f">hhih{len(name)}s", API_VERSIONS, 0, 1, len(name), name)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            size, correlation, error = struct.unpack(">iih", receive(connection, 10))
    except (OSError, EOFError):
        return False
    return bool(6 <= size <= ANSWER_BYTES and correlation == 1 and error == 0)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes.

    Raises:
        EOFError: the peer closed first.
    """
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
