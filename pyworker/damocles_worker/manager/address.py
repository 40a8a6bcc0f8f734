"""Where the manager is: from the configured text to the URL that is dialled.

Multiaddrs, ``http(s)://`` and ``ws(s)://`` URLs all reach ``/rpc/v0`` over plain HTTP POST.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from msgspec import Struct

from damocles_worker.errors import WorkerError

RPC_PATH = "/rpc/v0"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN_SCHEME = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
#: Multiaddr protocols without a value; of these only ``https`` changes what is dialled.
_FLAGS = frozenset({"http", "https", "ws", "wss", "tls"})
_DNS = frozenset({"dns", "dns4", "dns6"})
_NEXT_STEP = 'Write it as "/ip4/10.0.0.5/tcp/1789" or "http://10.0.0.5:1789"'


class AddressError(WorkerError, ValueError):
    """The text is no address of a manager."""


class Address(Struct, frozen=True):
    """A manager's address."""

    #: What is dialled, ``http://10.0.0.5:1789/rpc/v0``.
    url: str
    #: The same without the path; ``/piecestore/`` hangs below it.
    origin: str
    #: Host as a socket takes it: an IPv6 address without brackets.
    host: str
    port: int
    #: What was changed of the text as written, for the operator; empty if nothing.
    note: str = ""


def parse_address(text: str) -> Address:
    """Parse the configured address: a multiaddr is tried first, then a URL.

    :class:`AddressError` tells what each of the two found.
    """
    text = text.strip()
    try:
        return _from_multiaddr(text)
    except ValueError as error:
        as_multiaddr = str(error)
    try:
        return _from_url(text)
    except ValueError as error:
        raise AddressError(
            f"manager address {text!r} can't be used: as a multiaddr: {as_multiaddr}; as a URL: {error}",
            next_step=_NEXT_STEP,
        ) from None


def _from_multiaddr(text: str) -> Address:
    if not text.startswith("/"):
        raise ValueError("it does not start with '/'")
    parts = text.strip("/").split("/")
    scheme, host, port = "http", "", None
    ignored = []
    position = 0
    while position < len(parts):
        protocol = parts[position]
        position += 1
        if protocol in _FLAGS:
            if protocol in ("http", "https"):
                scheme = protocol
            else:
                ignored.append(protocol)
            continue
        if protocol not in _DNS and protocol not in ("ip4", "ip6", "tcp"):
            raise ValueError(
                f"unknown protocol {protocol!r} (known: ip4, ip6, dns, dns4, dns6, tcp, http, https)"
            )
        if position == len(parts):
            raise ValueError(f"{protocol} has no value")
        value = parts[position]
        position += 1
        if protocol == "tcp":
            port = _port(value)
        else:
            host = _host(value, protocol)
    if not host:
        raise ValueError("it names no host (ip4, ip6, dns, dns4 or dns6)")
    note = f"/{'/'.join(ignored)} is ignored: requests are plain {scheme} POSTs" if ignored else ""
    return _address(scheme, host, port, note=note)


def _from_url(text: str) -> Address:
    # urlsplit drops these characters silently; a pasted line break must not become another host.
    if any(character.isspace() for character in text):
        raise ValueError("it contains white space")
    split = urlsplit(text)
    if "://" not in text:
        raise ValueError("it has no scheme (http:// or https://)")
    if split.scheme not in _PLAIN_SCHEME:
        raise ValueError(f"scheme {split.scheme!r} where http, https, ws or wss is expected")
    host = _host(split.hostname or "", "ip6" if "[" in split.netloc else "host")
    port = split.port
    if port == 0:
        raise ValueError("port 0 where a number from 1 to 65535 is expected")
    notes = []
    scheme = _PLAIN_SCHEME[split.scheme]
    if scheme != split.scheme:
        notes.append(f"{split.scheme}:// is dialled as {scheme}://: requests are plain HTTP POSTs")
    if split.path not in ("", "/", RPC_PATH) or split.query or "@" in split.netloc:
        notes.append(f"path, query and user of the address are dropped: requests go to {RPC_PATH}")
    return _address(scheme, host, port, note="; ".join(notes))


def _address(scheme: str, host: str, port: int | None, *, note: str) -> Address:
    shown = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{shown}" if port is None else f"{scheme}://{shown}:{port}"
    return Address(
        url=origin + RPC_PATH,
        origin=origin,
        host=host,
        port=_DEFAULT_PORTS[scheme] if port is None else port,
        note=note,
    )


def _host(value: str, protocol: str) -> str:
    if any(character in value for character in "{}<>$"):
        raise ValueError(f"{value!r} is a placeholder: put the manager's address in its place")
    if not value:
        raise ValueError("it names no host")
    if protocol == "ip4":
        return str(ipaddress.IPv4Address(value))
    if protocol == "ip6":
        return str(ipaddress.IPv6Address(value.strip("[]")))
    if not _HOST_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is neither a host name nor an IP address")
    return value


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or not 1 <= int(value) <= 65535:
        raise ValueError(f"port {value!r} where a number from 1 to 65535 is expected")
    return int(value)
