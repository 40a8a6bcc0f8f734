"""Durations and byte sizes as people write them in configuration files and on command lines.

Three grammars of the Rust worker are kept, because files written for it must keep their meaning:
durations (``humantime``), sizes in the configuration (``byte-unit``) and sizes on the command line
(``bytesize``). The two size grammars agree on units and differ in what they tolerate around them.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NANOS_PER_SECOND = 1_000_000_000
_MONTH_SECONDS = 2_630_016  # 30.44 days
_YEAR_SECONDS = 31_557_600  # 365.25 days
_MAX_U64 = 2**64 - 1
_MAX_U128 = 2**128 - 1

_UNIT_NANOS = {
    spelling: nanos
    for spellings, nanos in (
        ("ns nsec nanos", 1),
        ("us usec", 1_000),
        ("ms msec millis", 1_000_000),
        ("s sec secs second seconds", _NANOS_PER_SECOND),
        ("m min mins minute minutes", 60 * _NANOS_PER_SECOND),
        ("h hr hrs hour hours", 3600 * _NANOS_PER_SECOND),
        ("d day days", 86400 * _NANOS_PER_SECOND),
        ("w week weeks", 7 * 86400 * _NANOS_PER_SECOND),
        ("M month months", _MONTH_SECONDS * _NANOS_PER_SECOND),
        ("y year years", _YEAR_SECONDS * _NANOS_PER_SECOND),
    )
    for spelling in spellings.split()
}

_DURATION = re.compile(r"(?:\s*[0-9]{1,20}\s*[A-Za-z]+)+\s*")
_DURATION_PAIR = re.compile(r"([0-9]+)\s*([A-Za-z]+)")
_DURATION_EXPECTED = 'expected whole numbers with a unit, such as "30s", "5min" or "1h 30m"'

_SIZE_A = re.compile(r"([0-9]{1,39}(?:\.[0-9]{1,39})?)\s*([A-Za-z]*)")
_SIZE_A_EXPECTED = 'expected a number with a unit, such as "32GiB"'
_SIZE_B = re.compile(r"([0-9]{0,20}\.?[0-9]{0,20})\s*([A-Za-z]+)")
_SIZE_B_EXPECTED = 'expected bytes or a number with a unit, such as "2048" or "2KiB"'

_PREFIXES = "KMGTPEZ"
_BINARY_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def parse_duration(text: str) -> float:
    """Seconds of a ``humantime`` duration: one or more ``<whole number><unit>`` pairs, summed.

    Spaces are allowed between and inside pairs; units are case-sensitive (``1M`` is a month of
    30.44 days, ``1m`` a minute). Raises ``ValueError`` with the value and what was expected.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration: {_duration_hint(text)}')
    nanos = 0
    for number, unit in _DURATION_PAIR.findall(text):
        if unit not in _UNIT_NANOS:
            raise ValueError(f'"{text}" is not a duration: {_unknown_unit(unit)}')
        nanos += int(number) * _UNIT_NANOS[unit]
    if nanos // _NANOS_PER_SECOND > _MAX_U64:
        raise ValueError(f'"{text}" is not a duration: it is longer than 2^64 seconds')
    return nanos / _NANOS_PER_SECOND


def _duration_hint(text: str) -> str:
    stripped = text.strip()
    if re.fullmatch(r"[0-9]+", stripped):
        return f'the unit is missing; for seconds write "{stripped}s"'
    if stripped.startswith("-"):
        return "a duration has no sign; " + _DURATION_EXPECTED
    if re.match(r"[0-9]*\.[0-9]", stripped):
        return "fractions are not accepted; " + _DURATION_EXPECTED
    return _DURATION_EXPECTED


def _unknown_unit(unit: str) -> str:
    known = f'"{unit}" is not a unit of time'
    if unit.lower() in _UNIT_NANOS:
        return f'{known} (units are case-sensitive: "{unit.lower()}")'
    return f"{known}; units are ns us ms s m h d w M y and their long forms (sec, min, hour, day, ...)"


def format_duration(seconds: float) -> str:
    """A duration as ``humantime`` prints it: ``3903.0`` gives ``1h 5m 3s``, ``0.0`` gives ``0s``."""
    nanos = round(seconds * _NANOS_PER_SECOND)
    if nanos < 0:
        raise ValueError(f"{seconds} is not a duration: it is negative")
    whole, nanos = divmod(nanos, _NANOS_PER_SECOND)
    years, whole = divmod(whole, _YEAR_SECONDS)
    months, whole = divmod(whole, _MONTH_SECONDS)
    days, whole = divmod(whole, 86400)
    parts = [
        f"{count}{name}{'s' if count > 1 else ''}"
        for count, name in ((years, "year"), (months, "month"), (days, "day"))
        if count
    ]
    hours, whole = divmod(whole, 3600)
    minutes, whole = divmod(whole, 60)
    millis, nanos = divmod(nanos, 1_000_000)
    micros, nanos = divmod(nanos, 1_000)
    clock = ((hours, "h"), (minutes, "m"), (whole, "s"), (millis, "ms"), (micros, "us"), (nanos, "ns"))
    parts += [f"{count}{unit}" for count, unit in clock if count]
    return " ".join(parts) or "0s"


def parse_size_a(text: str) -> int:
    """Bytes of a size in the configuration (the grammar of ``byte-unit`` 4).

    Spaces around the text and before the unit are ignored; ``K``…``Z`` and ``KB``…``ZB`` are powers of
    1000, ``Ki``…``Zi`` and ``KiB``…``ZiB`` powers of 1024, in any case. So ``32GB`` is 32·10⁹ bytes.
    Raises ``ValueError`` with the value and what was expected.
    """
    match = _SIZE_A.fullmatch(text.strip())
    if not match:
        raise ValueError(f'"{text}" is not a size: {_SIZE_A_EXPECTED}')
    return _bytes(text, *match.groups(), limit=_MAX_U128, expected=_SIZE_A_EXPECTED)


def parse_size_b(text: str) -> int:
    """Bytes of a size on the command line (the grammar of ``bytesize`` 1.2).

    A whole number of bytes, or a number with a unit; nothing around it. Units as in
    :func:`parse_size_a`, up to peta. Raises ``ValueError`` with the value and what was expected.
    """
    if re.fullmatch(r"[0-9]{1,20}", text):
        return _bytes(text, text, "", limit=_MAX_U64, expected=_SIZE_B_EXPECTED)
    match = _SIZE_B.fullmatch(text)
    if not match or not re.search(r"[0-9]", match[1]) or match[2][0].upper() in "EZ":
        raise ValueError(f'"{text}" is not a size: {_SIZE_B_EXPECTED}')
    return _bytes(text, *match.groups(), limit=_MAX_U64, expected=_SIZE_B_EXPECTED)


def _bytes(text: str, number: str, unit: str, *, limit: int, expected: str) -> int:
    lowered = unit.lower()
    prefix, suffix = lowered[:1], lowered[1:]
    if lowered in ("", "b"):
        factor = 1
    elif prefix and prefix.upper() in _PREFIXES and suffix in ("", "b", "i", "ib"):
        factor = (1024 if "i" in suffix else 1000) ** (_PREFIXES.index(prefix.upper()) + 1)
    else:
        raise ValueError(f'"{text}" is not a size: "{unit}" is not a unit of size; {expected}')
    # A bare point on either side ("1." and ".5") is accepted on the command line only.
    size = int(Fraction(f"0{number}0" if "." in number else number) * factor)
    if size > limit:
        raise ValueError(f'"{text}" is not a size: it is too large')
    return size


def format_size(size: int) -> str:
    """A size in powers of 1024 with at most two decimals: ``1.5 GiB``, ``2 KiB``, ``127 B``."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(_BINARY_NAMES) - 1)
    number = f"{size / 1024**power:.2f}"
    return f"{number.rstrip('0').rstrip('.')} {_BINARY_NAMES[power]}"
