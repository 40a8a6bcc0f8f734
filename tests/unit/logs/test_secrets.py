"""What is masked, and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from damocles_worker.logs import secrets
from damocles_worker.logs.secrets import hide, without_secrets


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(secrets, "_known", set())
    yield


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PUT https://s3.local/b/k?X-Amz-Signature=abc&x=1: 403", "PUT https://s3.local/b/k?*** 403"),
        ("at 'http://h/p?token=t' now", "at 'http://h/p?***' now"),
        ("http://me:word@10.0.0.5:1789/rpc/v0", "http://***@10.0.0.5:1789/rpc/v0"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJBbGxvdyI6W119.x-y_z:/ip4/1.2.3.4", "***:/ip4/1.2.3.4"),
        ("is it so? http://h/p is", "is it so? http://h/p is"),
        ("/mnt/store@2/a?b", "/mnt/store@2/a?b"),
    ],
)
def test_what_looks_secret_is_masked(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_what_was_hidden_is_masked_wherever_it_is() -> None:
    hide(["open-sesame", "Token 0123456789", None, "", "ab"])
    assert without_secrets("x=open-sesame.") == "x=***."
    assert without_secrets("0123456789, Token 0123456789") == "***, ***"
    assert without_secrets("Token about ab") == "Token about ab"
