"""Whether a broker answers, asked of servers that answer well, badly, or not at all."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callstream.streams.broker.ports import is_free
from callstream.streams.broker.probe import answers


@contextmanager
def server(reply: bytes) -> Iterator[int]:
    """A server on 127.0.0.1 that reads one request, sends the reply and closes; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                size = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))[0]
                connection.recv(size, socket.MSG_WAITALL)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        (struct.pack(">iihi", 10, 1, 0, 0), True),
        (struct.pack(">iihi", 10, 1, 35, 0), False),
        (struct.pack(">iihi", 10, 2, 0, 0), False),
        (struct.pack(">iihi", -1, 1, 0, 0), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"\0\0", False),
        (b"", False),
    ],
)
def test_only_a_broker_that_serves_counts(reply: bytes, good: bool) -> None:
    with server(reply) as port:
        assert answers(port, timeout_seconds=5) is good


def test_nobody_listening_is_no_answer_and_a_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
    assert not answers(port, timeout_seconds=1)
