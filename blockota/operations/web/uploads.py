"""Forms with one file (``multipart/form-data``, RFC 7578)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File
from starlette.requests import Request

from blockota.errors import UsageError

_SPARE = 1 << 16
"""Bytes of a body for its fields and the headers of its parts, beside the file."""
_MOST_FIELDS = 20


@dataclass(frozen=True)
class FileForm:
    """The fields and the file of a form.

    Attributes:
        fields: the values of each field.
        file_name: the name of the file on the person's computer; empty if no file was chosen.
        content: the bytes of the file.
    """

    fields: Mapping[str, list[str]]
    file_name: str
    content: bytes


async def file_form_of(request: Request, *, most: int) -> FileForm:
    """Read a form with a file into memory.

    The caller must first check that the person may send a file.

    Args:
        request: the request.
        most: the largest size of the file, in bytes.

    Raises:
        UsageError: the body is too large, or is not a form with a file.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip() != "multipart/form-data":
        raise UsageError("the request is not a form with a file", why="its content type is not multipart/form-data")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most + _SPARE:
            raise UsageError("the file is too large", why=f"the page accepts at most {most:,} bytes")
    return _parsed(kind, bytes(body))


def _parsed(kind: str, body: bytes) -> FileForm:
    fields: dict[str, list[str]] = {}
    files: list[tuple[str, bytes]] = []

    def on_field(field: Field) -> None:
        name, value = field.field_name or b"", field.value or b""
        fields.setdefault(name.decode(), []).append(value.decode())
        if len(fields) > _MOST_FIELDS:
            raise UsageError("the form cannot be read", why=f"it has more than {_MOST_FIELDS} fields")

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        files.append(((file.file_name or b"").decode(), file.file_object.read()))
        file.close()

    try:
        parse_form({"Content-Type": kind.encode("latin-1")}, io.BytesIO(body), on_field, on_file)
    except (FormParserError, UnicodeError, ValueError) as error:
        raise UsageError("the form cannot be read", why=str(error)) from error
    if len(files) != 1:
        raise UsageError("the form cannot be read", why=f"it has {len(files)} files instead of one")
    return FileForm(fields, *files[0])
