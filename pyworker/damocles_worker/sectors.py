"""Sector sizes, seal proof types, prover ids and the commitments of all-zero data.

Numbers and names are those of the Filecoin specification (the registered seal proofs of the actors)
and of the proofs library; the manager's wire carries the numbers, processors the names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

#: The five sector sizes in bytes, smallest first; their position is the proof number within a version.
SECTOR_SIZES: dict[str, int] = {
    "2KiB": 2 << 10,
    "8MiB": 8 << 20,
    "512MiB": 512 << 20,
    "32GiB": 32 << 30,
    "64GiB": 64 << 30,
}

#: Name of the binary tree over a sector's unsealed data, wherever it lies.
TREE_D_FILE = "sc-02-data-tree-d.dat"

_VERSIONS = ("V1", "V1_1", "V1_1_Feat_SyntheticPoRep", "V1_2_Feat_NonInteractivePoRep")
_V1_1, _SYNTHETIC, _NON_INTERACTIVE = 1, 2, 3
_COUNT = len(SECTOR_SIZES)
_SIZE_NAMES = {size: name for name, size in SECTOR_SIZES.items()}
_NAMES = tuple(f"StackedDrg{size}{version}" for version in _VERSIONS for size in SECTOR_SIZES)
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}


def proof_name(number: int) -> str:
    """The proofs library's name of a seal proof: ``5`` is ``StackedDrg2KiBV1_1``.

    Raises ``ValueError`` naming the number when there is no such proof.
    """
    if not 0 <= number < len(_NAMES):
        raise ValueError(f"{number} is not a seal proof number: expected 0 to {len(_NAMES) - 1}")
    return _NAMES[number]


def proof_number(name: str) -> int:
    """The number of a seal proof from its name; ``ValueError`` naming the name when unknown."""
    if name not in _NUMBERS:
        raise ValueError(f'"{name}" is not a seal proof: expected a name such as "{_NAMES[_COUNT]}"')
    return _NUMBERS[name]


def sector_size(number: int) -> int:
    """The sector size in bytes of a seal proof number; ``ValueError`` when there is no such proof."""
    proof_name(number)
    return tuple(_SIZE_NAMES)[number % _COUNT]


def size_name(size: int) -> str:
    """The name of a sector size in bytes (``2048`` is ``2KiB``); ``ValueError`` when it is none."""
    if size not in _SIZE_NAMES:
        raise ValueError(f"{size} bytes is not a sector size: expected {', '.join(SECTOR_SIZES)}")
    return _SIZE_NAMES[size]


def is_synthetic(number: int) -> bool:
    """Whether a seal proof number uses synthetic challenges (SyntheticPoRep)."""
    proof_name(number)
    return number // _COUNT == _SYNTHETIC


def is_layer_file(name: str) -> bool:
    """Whether a file of a cache directory is a whole label layer, or the checksum file beside one."""
    return re.fullmatch(r"sc-02-data-layer-\d+\.(dat|sum)", name) is not None


def unpadded(size: int) -> int:
    """Bytes of data that fit into ``size`` padded bytes: fr32 spends 2 bits of every 256."""
    return size * 127 // 128


def piece_size_for(payload: int) -> int:
    """Unpadded bytes of the smallest piece that holds ``payload`` bytes: 127 times a power of two."""
    size = 127
    while size < payload:
        size *= 2
    return size


def proofs_for_sizes(sizes: Sequence[int]) -> list[int]:
    """Seal proof numbers asked of the manager for these sector sizes in bytes.

    For each size V1_1, synthetic and non-interactive, in this order, as the Rust worker sends them.
    """
    positions = [tuple(SECTOR_SIZES).index(size_name(size)) for size in sizes]
    versions = (_V1_1, _SYNTHETIC, _NON_INTERACTIVE)
    return [version * _COUNT + position for position in positions for version in versions]


def update_proof_name(number: int) -> str:
    """The proofs library's name of the replica update proof for a sector of this seal proof number."""
    return proof_name(number % _COUNT)


def post_proofs_for_sizes(sizes: Sequence[int]) -> list[str]:
    """Names of the proofs of space-time asked of the manager for these sector sizes in bytes.

    For each size winning V1, window V1 and window V1_2, in this order, as the Rust worker sends them.
    """
    names = [size_name(size) for size in sizes]
    kinds = ("Winning{}V1", "Window{}V1", "Window{}V1_2")
    return [f"StackedDrg{kind.format(name)}" for name in names for kind in kinds]


def prover_id(miner: int) -> bytes:
    """The 32-byte prover id of a miner's actor id: unsigned LEB128, zero padded (10000 is ``90 4e 00…``)."""
    if not 0 <= miner < 2**64:
        raise ValueError(f"{miner} is not an actor id: expected 0 to 2^64 - 1")
    encoded = bytearray()
    rest = miner
    while True:
        rest, low = rest >> 7, rest & 0x7F
        encoded.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes(encoded).ljust(32, b"\0")


def zero_commitment(unpadded_size: int) -> bytes:
    """The data commitment of all-zero data of ``unpadded_size`` bytes (127 times a power of two).

    Each level of the tree is SHA-256 of two equal children with the two highest bits of the last
    byte cleared, starting from 32 zero bytes. ``ValueError`` for a size no piece can have.
    """
    leaves, rest = divmod(unpadded_size * 128 // 127, 32)
    if unpadded_size < 127 or unpadded_size % 127 or rest or leaves & (leaves - 1):
        raise ValueError(
            f"{unpadded_size} is not an unpadded piece size: expected 127 bytes times a power of two"
        )
    node = bytes(32)
    for _ in range(leaves.bit_length() - 1):
        node = hashlib.sha256(node + node).digest()
        node = node[:31] + bytes([node[31] & 0x3F])
    return node
