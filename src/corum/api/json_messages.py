"""Protobuf's JSON mapping as etcd's gateway speaks it, from descriptors. Pure.

Out: proto field names, 64-bit integers as strings, bytes as base64, enum names, nothing for unset
fields. In: the same, also camelCase names, numbers for 64-bit integers, URL-safe and unpadded
base64, enum numbers; unknown fields are ignored, null is unset. google.protobuf.json_format would
do, at several times the cost and with 30 ms of imports.
"""

from __future__ import annotations

import json
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from functools import cache
from json.encoder import encode_basestring
from typing import Any, Final, cast

from corum import errors

# google.protobuf.descriptor.FieldDescriptor's numbers of types.
_DOUBLE, _FLOAT, _BOOL, _STRING, _MESSAGE, _BYTES, _ENUM = 1, 2, 8, 9, 11, 12, 14
_WIDE: Final = frozenset((3, 4, 6, 16, 18))  # int64, uint64, fixed64, sfixed64, sint64
_DECODER: Final = json.JSONDecoder()
_SPACE: Final = " \t\r\n"
_URL_SAFE: Final = str.maketrans("-_", "+/")


def text(message: Any) -> str:
    """`message` as JSON."""
    writers = _writers(message.DESCRIPTOR)
    parts = [writers[field.number](found) for field, found in message.ListFields()]
    return f"{{{','.join(parts)}}}"


@cache
def _writers(descriptor: Any) -> dict[int, Callable[[Any], str]]:
    """Field number -> its value as `"name":value`."""
    return {field.number: _writer(field) for field in descriptor.fields}


def _writer(field: Any) -> Callable[[Any], str]:
    one = _value_writer(field)
    key = f'"{field.name}":'
    if _is_repeated(field):
        return lambda found: f"{key}[{','.join(map(one, found))}]"
    return lambda found: key + one(found)


def _value_writer(field: Any) -> Callable[[Any], str]:
    kind = field.type
    if kind == _MESSAGE:
        return text
    if kind == _BYTES:
        return lambda found: f'"{b64encode(found).decode()}"'
    if kind == _STRING:
        return encode_basestring
    if kind == _BOOL:
        return lambda found: "true" if found else "false"
    if kind == _ENUM:
        names = {each.number: f'"{each.name}"' for each in field.enum_type.values}
        return lambda found: names.get(found) or str(found)
    if kind in _WIDE:
        return lambda found: f'"{found}"'
    return str


def values(body: bytes, limit: int | None = None) -> list[Any]:
    """The JSON values of `body`, one after the other, at most `limit`.

    Raises EtcdError InvalidArgument for what is no JSON.
    """
    found: list[Any] = []
    at = 0
    try:
        document = body.decode()
        while True:
            while at < len(document) and document[at] in _SPACE:
                at += 1
            if at == len(document) or len(found) == limit:
                return found
            one, at = _DECODER.raw_decode(document, at)
            found.append(one)
    except json.JSONDecodeError as error:
        raise _bad(_syntax_error(error)) from None
    except UnicodeDecodeError:
        raise _bad("proto: syntax error (line 1:1): invalid UTF-8") from None
    except ValueError as error:  # a number with more digits than Python converts
        raise _bad(f"proto: syntax error: {error}") from None
    except RecursionError:
        raise _bad("proto: exceeded maximum recursion depth") from None


def _syntax_error(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc):
        return f"proto: syntax error (line {error.lineno}:{error.colno}): unexpected EOF"
    token = error.doc[error.pos : error.pos + 20].split()
    shown = token[0] if token else ""
    return f"proto: syntax error (line {error.lineno}:{error.colno}): invalid value {shown}"


def message(kind: Any, found: Any) -> Any:
    """A JSON value as a message of class `kind`; raises EtcdError InvalidArgument."""
    made = kind()
    try:
        _fill(made, found)
    except RecursionError:
        raise _bad("proto: exceeded maximum recursion depth") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise _bad(f"proto: {error}") from None
    return made


def _fill(target: Any, found: Any) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"syntax error: unexpected token {_shown(found)}")
    readers = _readers(target.DESCRIPTOR)
    for name, one in cast("dict[str, Any]", found).items():
        reader = readers.get(name)
        if reader is not None and one is not None:
            reader(target, one)


@cache
def _readers(descriptor: Any) -> dict[str, Callable[[Any, Any], None]]:
    """Proto name and camelCase name -> what puts a JSON value into that field of a message."""
    readers: dict[str, Callable[[Any, Any], None]] = {}
    for field in descriptor.fields:
        reader = _reader(field)
        readers[field.name] = reader
        readers.setdefault(_camel_case(field.name), reader)
    return readers


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _reader(field: Any) -> Callable[[Any, Any], None]:
    name = field.name
    if field.type == _MESSAGE:
        if _is_repeated(field):
            return lambda target, found: _fill_all(getattr(target, name), _array(field, found))
        return lambda target, found: _fill_one(getattr(target, name), found)
    convert = _value_reader(field)
    if _is_repeated(field):
        return lambda target, found: getattr(target, name).extend(
            map(convert, _array(field, found))
        )
    return lambda target, found: setattr(target, name, convert(found))


def _fill_one(inner: Any, found: Any) -> None:
    inner.SetInParent()  # an empty message that was sent is there
    _fill(inner, found)


def _fill_all(container: Any, found: list[Any]) -> None:
    for one in found:
        _fill(container.add(), one)


def _array(field: Any, found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"invalid value for repeated field {field.name}: {_shown(found)}")
    return cast("list[Any]", found)


def _value_reader(field: Any) -> Callable[[Any], Any]:
    kind = field.type

    def refuse(found: Any) -> ValueError:
        return ValueError(
            f"invalid value for {_type_name(kind)} field {field.name}: {_shown(found)}"
        )

    def read_bytes(found: Any) -> bytes:
        if not isinstance(found, str):
            raise refuse(found)
        try:
            padded = found.translate(_URL_SAFE).rstrip("=")
            return a2b_base64(padded + "=" * (-len(padded) % 4), strict_mode=True)
        except (Base64Error, ValueError):
            raise refuse(found) from None

    def read_text(found: Any) -> str:
        if not isinstance(found, str):
            raise refuse(found)
        return found

    def read_bool(found: Any) -> bool:
        if not isinstance(found, bool):
            raise refuse(found)
        return found

    def read_number(found: Any) -> int:
        if (isinstance(found, str) and found.isascii() and found.removeprefix("-").isdecimal()) or (
            isinstance(found, float) and found.is_integer()
        ):
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool):
            raise refuse(found)
        low, high = _range(kind)
        if not low <= found <= high:
            raise refuse(found)
        return found

    def read_enum(found: Any) -> int:
        if isinstance(found, str):
            named = field.enum_type.values_by_name.get(found)
            if named is None:
                raise refuse(found)
            return named.number
        return read_number(found)

    readers: dict[int, Callable[[Any], Any]] = {
        _BYTES: read_bytes,
        _STRING: read_text,
        _BOOL: read_bool,
        _ENUM: read_enum,
    }
    return readers.get(kind, read_number)


def _range(kind: int) -> tuple[int, int]:
    """Smallest and largest integer of a field type."""
    if kind in (4, 6):  # uint64, fixed64
        return 0, (1 << 64) - 1
    if kind in _WIDE:
        return -(1 << 63), (1 << 63) - 1
    if kind in (13, 7):  # uint32, fixed32
        return 0, (1 << 32) - 1
    return -(1 << 31), (1 << 31) - 1


_TYPE_NAMES: Final = {3: "int64", 4: "uint64", 5: "int32", 13: "uint32"}


def _type_name(kind: int) -> str:
    named = {_BYTES: "bytes", _STRING: "string", _BOOL: "bool", _ENUM: "enum"}
    return named.get(kind) or _TYPE_NAMES.get(kind, "number")


def _is_repeated(field: Any) -> bool:
    # `label` is on its way out of protobuf, `is_repeated` came with 6.31.
    repeated = getattr(field, "is_repeated", None)
    return field.label == field.LABEL_REPEATED if repeated is None else bool(repeated)


def _shown(found: Any) -> str:
    return json.dumps(found)[:100]


def _bad(reason: str) -> errors.EtcdError:
    return errors.EtcdError(errors.INVALID_ARGUMENT, reason)
