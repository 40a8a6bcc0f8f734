"""CIDs of Filecoin commitments: CIDv1 in lower-case base32, as the manager and the markets write them.

comm_d and piece commitments are codec 0xf101 (fil-commitment-unsealed) with multihash 0x1012
(sha2-256-trunc254-padded); comm_r is codec 0xf102 (fil-commitment-sealed) with multihash 0xb401
(poseidon-bls12_381-a2-fc1). Both hold 32 bytes. (The multicodec table; FIP-0000 conventions.)
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

Kind = Literal["unsealed", "sealed"]

#: Version 1, codec, multihash code and digest length (32), each an unsigned varint.
_PREFIX: dict[Kind, bytes] = {
    "unsealed": bytes.fromhex("01 81e203 9220 20"),
    "sealed": bytes.fromhex("01 82e203 81e802 20"),
}
_DIGEST = 32


def commd_cid(raw: bytes) -> str:
    """The CID text (``baga6ea4seaq…``) of a 32-byte comm_d or piece commitment."""
    return _format("unsealed", raw)


def commr_cid(raw: bytes) -> str:
    """The CID text (``bagboea4b5abc…``) of a 32-byte comm_r."""
    return _format("sealed", raw)


def parse_cid(text: str) -> tuple[Kind, bytes]:
    """The kind and the 32 bytes of a commitment's CID; :class:`ValueError` says what is wrong with it."""
    if not text.startswith("b"):
        raise ValueError(f"CID {text!r}: expected CIDv1 in lower-case base32, which starts with 'b'")
    encoded = text[1:]
    if encoded != encoded.lower():
        raise ValueError(f"CID {text!r}: expected lower-case base32, found upper-case letters")
    try:
        raw = base64.b32decode(encoded.upper() + "=" * (-len(encoded) % 8))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"CID {text!r}: not base32: {error}") from None
    for kind, prefix in _PREFIX.items():
        if raw.startswith(prefix):
            digest = raw[len(prefix) :]
            if len(digest) != _DIGEST:
                raise ValueError(f"CID {text!r}: {len(digest)} bytes of commitment where 32 are expected")
            if _format(kind, digest) != text:
                raise ValueError(f"CID {text!r}: its last character has bits set beyond the commitment")
            return kind, digest
    raise ValueError(
        f"CID {text!r}: not a Filecoin commitment (expected fil-commitment-unsealed, baga6ea4seaq…, "
        f"or fil-commitment-sealed, bagboea4b5abc…)"
    )


def _format(kind: Kind, raw: bytes) -> str:
    if len(raw) != _DIGEST:
        raise ValueError(f"a commitment has 32 bytes, found {len(raw)}")
    return "b" + base64.b32encode(_PREFIX[kind] + raw).decode().rstrip("=").lower()
