"""This program as a file: how it is started again, and what its one-file form has to put right at start.

The one-file executable (``packaging/launcher``) unpacks itself into a tree of its own and becomes the
program there. What it starts is started from that tree: replacing the executable never mixes versions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

#: Set by the launcher: the descriptor that locks the tree.
LOCK_VARIABLE = "DAMOCLES_WORKER_TREE_LOCK"
#: The lock of a tree, in its directory; the launcher knows it by the same name.
LOCK_FILE = ".in-use"
#: Where distributions keep the certificates of the authorities they trust.
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def own_command() -> list[str]:
    """How this program is started again."""
    if is_executable():
        return [sys.executable]
    # -P: the working directory is no place to import from.
    return [sys.executable, "-P", "-m", "damocles_worker"]


def is_executable() -> bool:
    """Whether this is the one-file executable."""
    return bool(getattr(sys, "frozen", False))


def take_over() -> None:
    """Put the process right after the one-file executable has started it, before anything else runs."""
    hold_tree(Path(sys.executable).parent, os.environ)
    clean_environment(os.environ)
    trust_certificates(os.environ)


def hold_tree(tree: Path, environment: MutableMapping[str, str]) -> int:
    """Keep the lock of the tree for as long as this process lives; answers its descriptor.

    Every process takes one of its own: a child can outlive its daemon, and a newer version removes trees
    that nobody holds. The launcher's, which held the tree until now, is given back.
    """
    descriptor = os.open(tree / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    handed = environment.pop(LOCK_VARIABLE, "")
    if handed.isdecimal():
        with contextlib.suppress(OSError):
            os.close(int(handed))
    return descriptor


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """Take back what PyInstaller set for itself: other programs must not load the tree's libraries."""
    for name in [name for name in environment if name.startswith("_PYI_")]:
        del environment[name]
    original = environment.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        environment["LD_LIBRARY_PATH"] = original
    else:
        environment.pop("LD_LIBRARY_PATH", None)


def trust_certificates(environment: MutableMapping[str, str]) -> None:
    """Name the host's certificates: the bundled library looks where its distribution keeps them."""
    found = next(filter(os.path.isfile, CERTIFICATES), None)
    if found and not environment.keys() & {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
        environment["SSL_CERT_FILE"] = found
