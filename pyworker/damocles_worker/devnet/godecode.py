"""Parameters decoded as the manager's Go code decodes them, with its strictness and its leniency.

Keys match whatever their case, unknown ones are ignored, ``null`` and absent mean the zero value, an
array of fixed length is cut or filled with zeros; but a number is never a string, a fraction never an
integer, a CID never a bare string, and base64 is of the standard alphabet with padding.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from damocles_worker.cid import parse_cid
from damocles_worker.manager.types import GO_BYTES, GO_UINT64, Cid


class GoDecodeError(ValueError):
    """The text Go's decoder would give, its type names approximated."""


def decode(value: Any, type_: Any) -> Any:
    """A value of ``type_`` (a type of :mod:`damocles_worker.manager.types`) from parsed JSON."""
    return _decode(value, msgspec.inspect.type_info(type_), "Go value of")


def _decode(value: Any, info: msgspec.inspect.Type, where: str) -> Any:
    match info:
        case msgspec.inspect.Metadata():
            if info.extra == GO_BYTES:
                return _bytes(value, where)
            if info.extra == GO_UINT64:
                return _integer(value, 0, 2**64 - 1, where)
            return _decode(value, info.type, where)
        case msgspec.inspect.UnionType():
            inner = [option for option in info.types if not isinstance(option, msgspec.inspect.NoneType)]
            return None if value is None else _decode(value, inner[0], where)
        case msgspec.inspect.StructType():
            return _struct(value, info, where)
        case msgspec.inspect.ListType():
            return _list(value, info, where)
        case msgspec.inspect.IntType():
            low = -(2**63) if info.ge is None else info.ge
            return _integer(value, low, 2**63 - 1 if info.le is None else info.le, where)
        case msgspec.inspect.BoolType():
            return _scalar(value, bool, False, where)
        case msgspec.inspect.StrType():
            return _scalar(value, str, "", where)
    raise TypeError(f"no parameter has the type {info}")


def _struct(value: Any, info: msgspec.inspect.StructType, where: str) -> Any:
    if info.cls is Cid:
        return _cid(value)
    name = info.cls.__name__
    if value is not None and not isinstance(value, dict):
        raise GoDecodeError(f"json: cannot unmarshal {_kind(value)} into {where} type {name}")
    given = {key.lower(): item for key, item in (value or {}).items()}
    fields = {
        field.name: _decode(
            given.get(field.encode_name.lower()), field.type, f"Go struct field {name}.{field.encode_name} of"
        )
        for field in info.fields
    }
    return info.cls(**fields)


def _list(value: Any, info: msgspec.inspect.ListType, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise GoDecodeError(f"json: cannot unmarshal {_kind(value)} into {where} type []")
    items = [_decode(item, info.item_type, where) for item in value or []]
    fixed = info.max_length
    if fixed is None:
        return items
    return (items + [_decode(None, info.item_type, where)] * fixed)[:fixed]


def _integer(value: Any, low: int, high: int, where: str) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        type_name = "int64" if low < 0 else f"uint{high.bit_length()}"
        raise GoDecodeError(f"json: cannot unmarshal {_kind(value)} into {where} type {type_name}")
    return value


def _scalar(value: Any, type_: type, zero: Any, where: str) -> Any:
    if value is None:
        return zero
    if not isinstance(value, type_):
        name = "string" if type_ is str else "bool"
        raise GoDecodeError(f"json: cannot unmarshal {_kind(value)} into {where} type {name}")
    return value


def _bytes(value: Any, where: str) -> str:
    """``[]byte``: base64, or an array of small integers, which Go takes as well."""
    if value is None:
        return ""
    if isinstance(value, list):
        return base64.b64encode(bytes(_integer(item, 0, 255, where) for item in value)).decode()
    if not isinstance(value, str):
        raise GoDecodeError(f"json: cannot unmarshal {_kind(value)} into {where} type []uint8")
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GoDecodeError(f"illegal base64 data: {error}") from None
    return value


def _cid(value: Any) -> Cid:
    if value is None:
        return Cid(text="")
    if not isinstance(value, dict) or not isinstance(value.get("/"), str):
        raise GoDecodeError(f"invalid cid: json: cannot unmarshal {_kind(value)} into {{CidTarget string}}")
    try:
        parse_cid(value["/"])
    except ValueError as error:
        raise GoDecodeError(f"invalid cid: {error}") from None
    return Cid(text=value["/"])


def _kind(value: Any) -> str:
    """How Go names what it found."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return f"number {value}"
    if value is None:
        return "null"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names[type(value)]
