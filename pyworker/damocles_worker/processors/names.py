"""Names of the sealing stages as users see them."""

from __future__ import annotations

#: Stage to the name shown in ``worker list`` behind ``builtin``. The Rust worker has no name for those
#: from ``synth_proof`` on, which it doesn't run as processors of a thread.
TITLES = {
    "add_pieces": "AddPieces",
    "tree_d": "TreeD",
    "pc1": "PC1",
    "pc2": "PC2",
    "c2": "C2",
    "snap_encode": "SnapEncode",
    "snap_prove": "SnapProve",
    "transfer": "Transfer",
    "unseal": "Unseal",
    "window_post": "WindowPoSt",
    "synth_proof": "SyntheticPoRep",
    "c1": "C1",
    "verify_seal": "VerifySeal",
    "clear_cache": "ClearCache",
    "snap_vanilla": "SnapVanilla",
    "verify_snap": "VerifySnap",
    "snap_decode": "SnapDecode",
    "winning_post": "WinningPoSt",
    "verify_window_post": "VerifyWindowPoSt",
    "verify_winning_post": "VerifyWinningPoSt",
}


def builtin_name(stage: str) -> str:
    """The processor name of a stage that runs in this process, such as ``builtin PC1``."""
    return f"builtin {TITLES[stage]}"
