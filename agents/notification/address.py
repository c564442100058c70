"""Which addresses may be called: the last look before a socket is made, at the very address it will connect to.

A name is resolved once, and each address that came of it passes here on its way to `connect`; so does a literal address
in any notation. There is no second look-up that could say something else.
"""

import ipaddress
import socket
from typing import Any

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(OSError):
    """A callback leads to an address that is not public."""


def refusal(address: str) -> str | None:
    """Why an IP address may not be called, or None if it is a public one.

    >>> refusal("169.254.169.254"), refusal("::ffff:10.0.0.1"), refusal("1.1.1.1")
    ('link-local', 'private', None)
    """
    try:
        parsed: Address = ipaddress.ip_address(address)
    except ValueError:
        return "not an IP address"
    if parsed in _NAT64:
        # Where a network reaches IPv4 through NAT64, this is how every public IPv4 address looks.
        parsed = _low(parsed)
    return next((why for each in (parsed, *_inside(parsed)) if (why := _kind(each)) is not None), None)


def guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for an entry of `getaddrinfo`. Raises AddressRefused."""
    family, kind, protocol, _, target = info
    if refusal(target[0]) is not None:
        # One text for all, which names no address: callers are not told what our network looks like inside.
        raise AddressRefused("the callback leads to an address that is not public")
    return socket.socket(family, kind, protocol)


def _kind(address: Address) -> str | None:
    kinds = {
        "unspecified": address.is_unspecified,
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "private": address.is_private or address in _NAT64_LOCAL or address in _SITE_LOCAL,
        "reserved": address.is_reserved or not address.is_global,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


def _inside(address: Address) -> tuple[Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found: list[Address] = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    if address.teredo is not None:
        found.extend(address.teredo)
    return tuple(found)


def _low(address: Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
