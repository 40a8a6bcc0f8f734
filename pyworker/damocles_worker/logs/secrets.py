"""What must not be read in a log, a journal or a list: tokens, credentials, signed URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Shorter texts are words, and replacing them would garble every line; parts of a secret are words sooner.
_SHORTEST, _SHORTEST_PART = 4, 8
_MASK = "***"
_PATTERNS = (
    # A signed URL holds its secret in the query, others hold a password before the host.
    (re.compile(r"""(\b[a-z][a-z0-9+.-]*://[^\s?"'<>]*\?)[^\s"'<>]+""", re.IGNORECASE), rf"\1{_MASK}"),
    (re.compile(r"""(\b[a-z][a-z0-9+.-]*://)[^\s/?#@"'<>]+@""", re.IGNORECASE), rf"\1{_MASK}@"),
    (re.compile(r"(\bBearer )[^\s\"']+", re.IGNORECASE), rf"\1{_MASK}"),
    # A JSON web token, as managers and markets hand out.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]+)?"), _MASK),
)

_known: set[str] = set()


def hide(secrets: Iterable[str | None]) -> None:
    """From now on none of ``secrets`` appears; of ``Bearer x`` neither does ``x`` alone."""
    for secret in filter(None, secrets):
        _known.update(part for part in secret.split() if len(part) >= _SHORTEST_PART)
        if len(secret) >= _SHORTEST:
            _known.add(secret)


def without_secrets(text: str) -> str:
    """``text`` with everything secret in it masked."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    for pattern, masked in _PATTERNS:
        text = pattern.sub(masked, text)
    return text
