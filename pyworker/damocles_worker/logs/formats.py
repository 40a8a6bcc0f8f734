"""The two shapes of a line: for people, and one JSON object."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from damocles_worker.logs.directives import TRACE, target_of
from damocles_worker.logs.place import Place
from damocles_worker.logs.secrets import without_secrets

_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR", TRACE: "TRACE"}
#: Colours of a terminal: red, yellow, green, and two quiet ones.
_COLOURS = {"ERROR": 31, "WARN": 33, "INFO": 32, "DEBUG": 36, "TRACE": 90}
_DIM = "\x1b[2m"
_PLAIN = "\x1b[0m"


class Human(logging.Formatter):
    """``<local time> LEVEL thread{index=0 sector=… stage=…}: target: message``, the Rust worker's shape."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        time, level, target = _time(record), _level(record), target_of(record.name)
        fields = " ".join(f"{key}={value}" for key, value in _place(record).items())
        where = f" thread{{{fields}}}:" if fields else ""
        message = without_secrets(_message(self, record))
        if not self._colours:
            return f"{time} {level:>5}{where} {target}: {message}"
        colour = f"\x1b[{_COLOURS[level]}m"
        return f"{_DIM}{time}{_PLAIN} {colour}{level:>5}{_PLAIN}{where} {_DIM}{target}:{_PLAIN} {message}"


class Json(logging.Formatter):
    """``{"time", "level", "target", "message"}``, and ``index``, ``sector`` and ``stage`` where known."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": _level(record).lower(),
            "target": target_of(record.name),
            **_place(record),
            "message": without_secrets(_message(self, record)),
        }
        return msgspec.json.encode(fields).decode()


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    message = record.getMessage()
    return f"{message}\n{formatter.formatException(record.exc_info)}" if record.exc_info else message


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno) or record.levelname


def _place(record: logging.LogRecord) -> dict[str, int | str]:
    place: Place | None = getattr(record, "place", None)
    if place is None:
        return {}
    texts = {"sector": place.sector, "stage": place.stage}
    return {"index": place.thread, **{key: text for key, text in texts.items() if text}}
