"""Forms that hold many files: each is written where it is to lie, while it comes.

Starlette's own forms hold every file of a request open at a time, which is more than a process may.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from emotion2vec_ui.batch.incoming import Incoming
from emotion2vec_ui.errors import BadField, InputError, NoFiles
from emotion2vec_ui.records import subclasses

FILES = "files"
"""The form's field of recordings; it may come any number of times."""

SUBCLASS = "subclass"
"""The field that may come several times; its values are joined by commas, as they may come too."""

MAX_FIELDS, MAX_FIELD_BYTES = 16, 1024
"""Of what is no file: more than any that is meant."""

MAX_HEADER_BYTES = 16_384
"""Of one part: its name and a path."""

WRITE_BYTES = 1 << 20
"""Gathered before a worker thread writes them: each change of threads costs 0.1 ms."""


async def receive(
    request: Request, incoming: Incoming, limit_bytes: int, threads: anyio.CapacityLimiter
) -> Mapping[str, str]:
    """Writes the files of a form where `incoming` says; returns the other fields.

    Args:
        request: with the form.
        incoming: takes the files, and is finished here.
        limit_bytes: of the form; what is refused earlier is read to its end, so that the sender,
            who reads no answer before, sees why.
        threads: in which files are written.

    Raises:
        InputError: it is no form, or what it holds cannot be taken.
        OutputError: a file cannot be written.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise NoFiles()
    reader = _Reader(content_type, incoming)
    seen = 0
    stream = request.stream()
    try:
        parts: list[bytes] = []
        gathered = 0
        async for chunk in stream:
            seen += len(chunk)
            gathered += len(chunk)
            parts.append(chunk)
            if gathered >= WRITE_BYTES:
                await anyio.to_thread.run_sync(reader.feed, b"".join(parts), limiter=threads)
                parts, gathered = [], 0
        await anyio.to_thread.run_sync(reader.feed, b"".join(parts), limiter=threads)
        return await anyio.to_thread.run_sync(reader.finish, limiter=threads)
    except InputError:
        async for chunk in stream:
            seen += len(chunk)
            if seen > limit_bytes:
                break
        raise


def boolean(field: str, value: object) -> bool:
    """A field that is yes or no.

    Raises:
        BadField: it is neither.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "1", "yes", "on"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("false", "0", "no", "off", ""):
        return False
    raise BadField(field=field, value=repr(value)[:100], allowed="true, false")


def subclass_names(value: str, outputs: Path) -> tuple[str, ...]:
    """The sets of sub-classes that a field names, with commas between.

    Raises:
        BadField: there is no such set.
    """
    names = [one.strip() for one in value.split(",") if one.strip()]
    known = subclasses.names(outputs) if names else []
    for name in names:
        if name not in known:
            allowed = ", ".join(known) or "-"
            raise BadField(field=SUBCLASS, value=repr(name)[:100], allowed=allowed)
    return tuple(dict.fromkeys(names))


class _Reader:
    """Parses a form (RFC 7578) as it comes; files go to `incoming`, other fields are kept."""

    def __init__(self, content_type: str, incoming: Incoming) -> None:
        self._incoming = incoming
        self._fields: dict[str, str] = {}
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._field = ""
        self._content = b""
        self._in_file = False
        self._has_ended = False
        _, options = parse_options_header(content_type)
        if not options.get(b"boundary"):
            raise InputError(problem="multipart/form-data without a boundary")
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, content: bytes) -> None:
        """Takes the next bytes of the form.

        Raises:
            InputError: they are none of a form, or hold what cannot be taken.
        """
        try:
            self._parser.write(content)
        except MultipartParseError as error:
            raise InputError(problem=str(error)[:200]) from error

    def finish(self) -> Mapping[str, str]:
        """Ends the form; returns its fields.

        Raises:
            InputError: the form ended early, or holds what cannot be taken.
        """
        if not self._has_ended:
            raise InputError(problem="the form ends before its last boundary")
        self._incoming.finish()
        return self._fields

    def _on_part_begin(self) -> None:
        self._disposition = self._content = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bound_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound_header()

    def _bound_header(self) -> None:
        if len(self._header) + len(self._value) > MAX_HEADER_BYTES:
            raise InputError(problem=f"a header of more than {MAX_HEADER_BYTES} bytes")

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InputError(problem="a part of the form has no name")
        self._field = options[b"name"].decode("utf-8", "replace")[:100]
        self._in_file = b"filename" in options
        if not self._in_file:
            return
        name = options[b"filename"].decode("utf-8", "replace")
        if self._field != FILES:
            raise BadField(field=self._field, value=repr(name)[:100], allowed=f"{FILES}=@...")
        # What a browser sends where nothing was chosen.
        self._in_file = name != ""
        if self._in_file:
            self._incoming.begin(name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._incoming.write(data[start:end])
            return
        self._content += data[start:end]
        if len(self._content) > MAX_FIELD_BYTES:
            value = repr(self._content[:100])
            raise BadField(field=self._field, value=value, allowed=f"{MAX_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._in_file:
            self._incoming.end()
            return
        value = self._content.decode("utf-8", "replace")
        if self._field == SUBCLASS and SUBCLASS in self._fields:
            value = f"{self._fields.pop(SUBCLASS)},{value}"
            if len(value) > MAX_FIELD_BYTES:
                shown, allowed = repr(value)[:100], f"{MAX_FIELD_BYTES} bytes"
                raise BadField(field=SUBCLASS, value=shown, allowed=allowed)
        if self._field in self._fields:
            found = f"{self._fields[self._field]!r}, {value!r}"[:100]
            raise BadField(field=self._field, value=found, allowed="one value")
        if len(self._fields) >= MAX_FIELDS:
            raise InputError(problem=f"more than {MAX_FIELDS} fields")
        self._fields[self._field] = value

    def _on_end(self) -> None:
        self._has_ended = True
