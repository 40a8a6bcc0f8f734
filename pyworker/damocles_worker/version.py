"""What this build is, and what the machine offers it."""

from __future__ import annotations

from damocles_worker import __version__, _native


def version_text() -> str:
    """``v<version>-<commit>``, as sent in pings."""
    return f"v{__version__}-{_native.version_info()['commit']}"


def version_line() -> str:
    """:func:`version_text`, then in brackets the build profile, GPU code and CPU features in use.

    One line that begins as the Rust worker's, which people's scripts cut at blanks.
    """
    build = _native.version_info()
    features = build["cpu_features"] or "none of those that matter"
    return f"{version_text()} ({build['profile']}, GPU: {build['gpu']}, CPU: {features})"


def has_gpu_code() -> bool:
    """Whether this build can compute on GPUs (``make dist GPU=…``)."""
    return _native.version_info()["gpu"] != "none"
