"""The output formats of etcdctl: simple, json, fields, table, protobuf.

`Printer.show` is given the response and what each format makes of it; json and protobuf come from
the message itself. Output is bytes: keys and values are printed as they are.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from corum.cli.command import EXIT_BAD_FEATURE, ExitError
from corum.cli.gotext import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.protobuf.message import Message

    from corum.pb import kv as kvpb

FORMATS = ("fields", "json", "protobuf", "simple", "table")
EVENT_NAMES = ("PUT", "DELETE")


class Printer:
    """Writes answers in one format."""

    def __init__(self, form: str, *, hexadecimal: bool = False) -> None:
        if form not in FORMATS:
            raise ExitError(EXIT_BAD_FEATURE, "unsupported output format")
        self.form = form
        self.hexadecimal = hexadecimal

    def show(
        self,
        message: Message | None,
        simple: Callable[[], None],
        *,
        fields: Callable[[], None] | None = None,
        table: Callable[[], None] | None = None,
        json: Callable[[], str] | None = None,
    ) -> None:
        """Print an answer. A format without its function here is refused (exit status 4).

        json and protobuf are made from `message` unless `json` gives the text.
        """
        if self.form == "simple":
            simple()
        elif self.form == "json" and (json or message is not None):
            self.line(json() if json else message_json(message))
        elif self.form == "protobuf" and message is not None:
            self.raw(message.SerializeToString())
        elif self.form == "fields" and fields:
            fields()
        elif self.form == "table" and table:
            table()
        else:
            raise ExitError(EXIT_BAD_FEATURE, f"{self.form} not supported as output format")
        sys.stdout.flush()

    def done(self, response: Message, text: str) -> None:
        """One line for people, the header for programs."""
        self.show(response, lambda: self.line(text), fields=lambda: self.header(response))

    # Pieces ----------------------------------------------------------------------------------

    def raw(self, data: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)

    def line(self, text: str) -> None:
        self.raw(text.encode("utf-8", "surrogateescape") + b"\n")

    def bytes_line(self, data: bytes) -> None:
        """A key or value with a line end; with --hex as \\x66\\x6f."""
        if self.hexadecimal:
            data = "".join(f"\\x{byte:02x}" for byte in data).encode()
        self.raw(data + b"\n")

    def pair(self, pair: kvpb.KeyValue, *, values_only: bool = False) -> None:
        if not values_only:
            self.bytes_line(pair.key)
        self.bytes_line(pair.value)

    def field(self, name: str, value: object) -> None:
        shown = value if isinstance(value, int) and not isinstance(value, bool) else _field(value)
        self.line(f'"{name}" : {shown}')

    def header(self, message: Message) -> None:
        """The four header lines of the fields format; nothing for a header that is not there."""
        header: Any = getattr(message, "header", None)
        if header is None or not message.HasField("header"):
            return
        self.field("ClusterID", header.cluster_id)
        self.field("MemberID", header.member_id)
        self.field("Revision", header.revision)
        self.field("RaftTerm", header.raft_term)

    def pair_fields(self, pair: kvpb.KeyValue, prefix: str = "") -> None:
        self.field(f"{prefix}Key", pair.key)
        self.field(f"{prefix}CreateRevision", pair.create_revision)
        self.field(f"{prefix}ModRevision", pair.mod_revision)
        self.field(f"{prefix}Version", pair.version)
        self.field(f"{prefix}Value", pair.value)
        self.field(f"{prefix}Lease", pair.lease)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        for line in table_lines(header, list(rows)):
            self.line(line)


def _field(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    assert isinstance(value, str | bytes), f"no field form for {value!r}"
    return quote(value)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """An ASCII table: headings centred and upper case, cells to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    head = (
        "|"
        + "|".join(f" {_centred(h.upper(), w)} " for h, w in zip(header, widths, strict=True))
        + "|"
    )
    body = [
        "|" + "|".join(f" {cell.rjust(w)} " for cell, w in zip(row, widths, strict=True)) + "|"
        for row in rows
    ]
    return [rule, head, rule, *body, *([rule] if rows else [])]


def _centred(text: str, width: int) -> str:
    """Centred; of an odd rest the larger half goes to the right."""
    left = (width - len(text)) // 2
    return " " * left + text + " " * (width - len(text) - left)


# JSON as Go writes it -------------------------------------------------------------------------


def message_json(message: Message | None) -> str:
    """A message as Go's encoding/json writes etcd's structs: proto names, numbers for int64 and
    enums, base64 for bytes, zero values left out, one-ofs below the name of their interface."""
    return go_json({} if message is None else message_object(message))


def message_object(message: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.containing_oneof is not None:
            if message.HasField(field.name):
                holder = field.containing_oneof.name.title().replace("_", "")
                out[holder] = {field.name: _plain(value)}
        elif _repeated(field):
            if len(value):
                out[field.name] = [_plain(item) for item in value]
        elif field.message_type is not None:
            if message.HasField(field.name):
                out[field.name] = message_object(value)
        elif value:
            out[field.name] = _plain(value)
    return out


def _repeated(field: Any) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == 3


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value if isinstance(value, str | int | bool) else message_object(value)


def go_json(value: Any) -> str:
    """Compact, with the escapes of Go's encoder."""
    from json import dumps

    text = dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, escape)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def flat_header(message: Any) -> dict[str, Any]:
    """The header's fields, for answers that Go prints without the level "header"."""
    return message_object(message.header)
