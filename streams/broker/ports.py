"""Choosing the broker's ports."""

import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

# Below 32768, where Linux takes the source ports of outgoing connections: a client that keeps reconnecting to a
# stopped broker's port could otherwise be given that very port and hold it.
LOWEST = 20_000
HIGHEST = 32_000
TRIES = 200


@dataclass(frozen=True)
class Ports:
    """The TCP ports of one broker on 127.0.0.1: for clients, and for its own controller."""

    broker: int
    controller: int


def choose_ports(remembered: Ports | None, is_free: Callable[[int], bool], rng: random.Random) -> Ports:
    """The remembered ports where they are free, so that clients can reconnect, else new ones.

    Args:
        remembered: ports of the last start, if known.
        is_free: tells whether a port can be bound.
        rng: where new ports are tried.

    Raises:
        OSError: no free port was found in 200 tries.
    """
    broker = remembered.broker if remembered and is_free(remembered.broker) else None
    controller = remembered.controller if remembered and is_free(remembered.controller) else None
    for _ in range(TRIES):
        if broker is not None and controller is not None and broker != controller:
            return Ports(broker, controller)
        port = rng.randrange(LOWEST, HIGHEST)
        if port in (broker, controller) or not is_free(port):
            continue
        if broker is None:
            broker = port
        else:
            controller = port
    raise OSError(f"no free port between {LOWEST} and {HIGHEST} on 127.0.0.1 in {TRIES} tries")


def is_free(port: int) -> bool:
    """Whether a server can listen on the port of 127.0.0.1 now."""
    with socket.socket() as server:
        # As Java's server sockets do: connections of the last broker in TIME_WAIT do not matter.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
