"""Forms of many files, read while they come: the same whatever pieces they come in."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from emotion2vec_ui.batch.incoming import Bounds, Incoming
from emotion2vec_ui.errors import BadField, EmotionError, InputError, NoFiles
from emotion2vec_ui.server.forms import MAX_FIELDS, MAX_HEADER_BYTES, _Reader

BOUNDS = Bounds(files=50, bytes=10_000_000, file_bytes=5_000_000)


def form(*parts: tuple) -> tuple[bytes, str]:
    """As urllib3, and with it requests, writes it."""
    return encode_multipart_formdata([*parts], boundary="xXx--boundary")


def read(folder: Path, content: bytes, kind: str, cuts: list[int] = ()) -> dict:
    incoming = Incoming(folder / "files", BOUNDS)
    try:
        reader = _Reader(kind, incoming)
        edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(edges):
            reader.feed(content[start:end])
        fields = dict(reader.finish())
    finally:
        incoming.end()
    root = folder / "files"
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    return {"fields": fields, "files": files}


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=300) | st.just(b"\r\n--xXx--boundary-\r\n"), max_size=5),
    cuts=st.lists(st.integers(0, 5000), max_size=30),
)
def test_any_pieces_give_the_same_files(contents, cuts):
    wanted = {f"d/{n}.wav": content for n, content in enumerate(contents)} | {"客户.wav": b"x"}
    parts = [("files", (name, content)) for name, content in wanted.items()]
    content, kind = form(("granularity", "frame"), *parts, ("extract_embedding", "true"))
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), content, kind, cuts)
    assert found["fields"] == {"granularity": "frame", "extract_embedding": "true"}
    assert found["files"] == wanted


FILE = ("files", ("a.wav", b"x"))


@pytest.mark.parametrize(
    ("parts", "error", "says"),
    [
        ([("granularity", "frame")], NoFiles, "No file came"),
        ([("files", ("", b""))], NoFiles, "No file came"),
        ([("audio", ("a.wav", b"x"))], BadField, "files=@"),
        ([FILE, ("a", "1"), ("a", "2")], BadField, "one value"),
        ([FILE, ("a", "x" * 2000)], BadField, "bytes"),
        ([FILE, *((f"f{n}", "1") for n in range(MAX_FIELDS + 1))], InputError, "fields"),
        ([("files", ("x" * MAX_HEADER_BYTES, b""))], InputError, "header"),
    ],
)
def test_what_no_job_is_made_of_is_told(tmp_path, parts, error, says):
    with pytest.raises(error) as caught:
        read(tmp_path, *form(*parts))
    assert says in str(caught.value)


def test_a_form_that_is_none_or_ends_early_is_told(tmp_path):
    content, kind = form(FILE)
    for number, (body, header) in enumerate(
        [
            (content[:-30], kind),
            (b"", kind),
            (b"nothing of the kind", kind),
            (content, "multipart/form-data"),
            (content, "multipart/form-data; boundary=other"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InputError):
            read(folder, body, header)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400), prefix=st.booleans())
def test_any_bytes_end_in_an_error_of_ours(content, prefix):
    whole, kind = form(FILE)
    with tempfile.TemporaryDirectory() as folder:
        try:
            read(Path(folder), (whole[:90] if prefix else b"") + content, kind)
        except EmotionError as error:
            assert error.status in (400, 413)
