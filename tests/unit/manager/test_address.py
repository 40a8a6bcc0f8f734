"""Every form of a manager's address reaches ``/rpc/v0``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker.manager.address import AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/ip4/127.0.0.1/tcp/1789", "http://127.0.0.1:1789/rpc/v0"),
        ("/dns4/hello.com/tcp/1789", "http://hello.com:1789/rpc/v0"),
        ("http://hello.com:1789", "http://hello.com:1789/rpc/v0"),
        ("http://hello.com:1789/", "http://hello.com:1789/rpc/v0"),
        ("http://hello.com:1789/rpc/v0", "http://hello.com:1789/rpc/v0"),
        ("https://hello.com", "https://hello.com/rpc/v0"),
        ("/ip4/10.0.0.5/tcp/1789/http", "http://10.0.0.5:1789/rpc/v0"),
        ("/dns/hello.com/tcp/443/https", "https://hello.com:443/rpc/v0"),
        ("/dns6/hello.com/tcp/1789", "http://hello.com:1789/rpc/v0"),
        ("/dns4/hello.com", "http://hello.com/rpc/v0"),
        ("/ip6/::1/tcp/1789", "http://[::1]:1789/rpc/v0"),
        ("http://[2001:db8::7]:1789", "http://[2001:db8::7]:1789/rpc/v0"),
        ("  http://hello.com:1789\n", "http://hello.com:1789/rpc/v0"),
    ],
)
def test_dialled_url(text: str, url: str) -> None:
    address = parse_address(text)
    assert address.url == url
    assert address.origin + "/rpc/v0" == url
    assert address.note == ""


def test_host_and_port_are_as_a_socket_takes_them() -> None:
    address = parse_address("/ip6/2001:db8::7/tcp/1789")
    assert (address.host, address.port) == ("2001:db8::7", 1789)
    assert parse_address("https://hello.com").port == 443
    assert parse_address("/dns/hello.com").port == 80


@pytest.mark.parametrize(
    ("text", "url", "note"),
    [
        ("ws://10.0.0.5:1789", "http://10.0.0.5:1789/rpc/v0", "ws:// is dialled as http://"),
        ("wss://hello.com", "https://hello.com/rpc/v0", "wss:// is dialled as https://"),
        ("/ip4/10.0.0.5/tcp/1789/ws", "http://10.0.0.5:1789/rpc/v0", "/ws is ignored"),
        ("http://hello.com/some/path?x=1", "http://hello.com/rpc/v0", "dropped"),
        ("http://me:secret@hello.com", "http://hello.com/rpc/v0", "dropped"),
    ],
)
def test_what_is_changed_is_noted(text: str, url: str, note: str) -> None:
    address = parse_address(text)
    assert address.url == url
    assert note in address.note


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it has no scheme"),
        ("127.0.0.1:1789", "it has no scheme"),
        ("/ip4/{some_ip}/tcp/1789", "'{some_ip}' is a placeholder"),
        ("http://{some_ip}:1789", "'{some_ip}' is a placeholder"),
        ("/ip4/<manager>/tcp/1789", "placeholder"),
        ("/ip4/300.0.0.1/tcp/1789", "300.0.0.1"),
        ("/ip4/127.0.0.1/tcp", "tcp has no value"),
        ("/ip4/127.0.0.1/tcp/0", "port '0'"),
        ("/ip4/127.0.0.1/tcp/65536", "port '65536'"),
        ("/ip4/127.0.0.1/quic/1789", "unknown protocol 'quic'"),
        ("/tcp/1789", "names no host"),
        ("/", "unknown protocol"),
        ("ftp://hello.com", "scheme 'ftp'"),
        ("http://", "names no host"),
        ("http://hello.com:port", "port"),
        ("http://hello.com:0", "port 0"),
        ("http://hello com", "white space"),
        ("http://hel!lo.com", "neither a host name nor an IP address"),
        ("http://[::1", "Invalid IPv6"),
        ("http://[zz::1]:1789", "zz::1"),
    ],
)
def test_what_is_no_address_is_refused_with_both_attempts(text: str, complaint: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert complaint in refused.value.cause
    assert repr(text) in refused.value.cause
    assert "as a multiaddr: " in refused.value.cause
    assert "as a URL: " in refused.value.cause
    assert "http://10.0.0.5:1789" in refused.value.next_step


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("/ip46dnstcp0123.:[]", max_size=30), st.from_regex(r"https?://.*")))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert address.url.endswith("/rpc/v0")
    assert 1 <= address.port <= 65535
