"""The table of a run as CSV, JSON, JSON lines or Parquet: complete under its name, or absent."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from emotion2vec_ui import __version__
from emotion2vec_ui.errors import BatchDiskFull, OutputError, PackageMissing
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.rows import COLUMNS, RESULT_COLUMNS, Row, cells

if TYPE_CHECKING:
    import pyarrow

SCHEMA = "emotion2vec_ui.rows/1"

ROWS_PER_GROUP = 2_000
"""Of Parquet: 8 MB of embeddings of 1024 numbers, which is what is held in memory."""


def check_available(path: Path) -> None:
    """Told before hours of work, not after.

    Raises:
        PackageMissing: this format needs a package that is not installed.
    """
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise PackageMissing(
                package="pyarrow", install="pyarrow", purpose=".parquet"
            ) from error


def write(
    path: Path,
    rows: Iterable[Row],
    *,
    facts: dict[str, str],
    results: bool = False,
    subclasses: Sequence[str] = (),
    segments: bool,
    embedding: int,
    lang: str,
    journal: Path,
    root_path: str = "",
) -> None:
    """Writes the table and then gives it its name, which may be that of an earlier one.

    Args:
        path: of the table; its ending (.parquet, .csv, .json or .jsonl) says the format.
        rows: in order.
        facts: about all of them; Parquet has room for them.
        results: whether the recordings are kept as results of their own.
        subclasses: columns of them.
        segments: whether there is a column of them.
        embedding: numbers in each embedding, 0 where there is no such column.
        lang: of the errors' sentences.
        journal: what keeps the rows whatever happens here, for the error.
        root_path: before the addresses of results.

    Raises:
        BatchDiskFull: nothing half-written is left.
        OutputError: the file cannot be written.
    """
    added = [*RESULT_COLUMNS] * results + [*subclasses]
    columns = [*COLUMNS, *added, *["segments"] * segments, *["embedding"] * bool(embedding)]
    table = (cells(row, lang, root_path) for row in rows)

    def fill(file: IO[bytes]) -> None:
        match path.suffix.lower():
            case ".csv":
                _write_csv(file, table, columns)
            case ".json":
                _write_json(file, table, columns)
            case ".jsonl":
                _write_jsonl(file, table, columns)
            case _:
                _write_parquet(file, table, _schema(facts, added, segments, embedding), embedding)

    write_whole(path, fill, journal=journal)


def write_whole(path: Path, fill: Callable[[IO[bytes]], object], *, journal: Path) -> None:
    """Writes a file beside its place and puts it there in one step.

    Raises:
        BatchDiskFull: nothing half-written is left.
        OutputError: the file cannot be written.
    """
    # One run at a time writes here, so a killed one's leftovers are overwritten.
    writing = path.with_name(f".{path.name}.writing")
    try:
        try:
            with writing.open("wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(writing, path)
        except BaseException:
            writing.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free_mb = shutil.disk_usage(path.parent).free / 1e6
            raise BatchDiskFull(free_mb=free_mb, path=journal) from error
        raise OutputError(path=path, problem=error.strerror or "I/O error") from error


def _write_csv(file: IO[bytes], table: Iterator[dict[str, Any]], columns: list[str]) -> None:
    """RFC 4180 in UTF-8; lists are JSON, but warnings are codes with spaces between."""
    # The wrapper must not close the file, which is synchronised after this.
    writer = csv.DictWriter(_Encoded(file), columns)
    writer.writeheader()
    for row in table:
        row["warnings"] = " ".join(row["warnings"])
        if "segments" in row:
            row["segments"] = json.dumps(row["segments"])
        writer.writerow(row)


class _Encoded:
    """What the csv module writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Writes text as UTF-8."""
        return self._file.write(text.encode())


def _write_jsonl(file: IO[bytes], table: Iterator[dict[str, Any]], columns: list[str]) -> None:
    """One object a line, all with the same keys."""
    for line in _objects(table, columns):
        file.write(line + b"\n")


def _write_json(file: IO[bytes], table: Iterator[dict[str, Any]], columns: list[str]) -> None:
    """An array of the same objects."""
    between = b"[\n"
    for line in _objects(table, columns):
        file.write(between + line)
        between = b",\n"
    file.write(b"\n]\n" if between != b"[\n" else b"[]\n")


def _objects(table: Iterator[dict[str, Any]], columns: list[str]) -> Iterator[bytes]:
    """Each row as JSON, all with the same keys."""
    empty = dict.fromkeys(columns)
    for row in table:
        if "embedding" in row:
            row["embedding"] = row["embedding"].tolist()
        yield json.dumps(empty | row, ensure_ascii=False).encode()


def _write_parquet(
    file: IO[bytes], table: Iterator[dict[str, Any]], schema: pyarrow.Schema, embedding: int
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    # Parquet has no null among lists of a fixed size: a row with an error has no number in it.
    nothing = {"embedding": np.full(embedding, np.nan, np.float32)} if embedding else {}
    table = (nothing | row for row in table)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(table, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _schema(
    facts: dict[str, str], added: Sequence[str], segments: bool, embedding: int
) -> pyarrow.Schema:
    """Columns with their units, and what is true of all rows."""
    import pyarrow as pa

    def field(name: str, kind: pa.DataType, about: str, unit: str = "") -> pa.Field:
        metadata = {"description": about} | ({"unit": unit} if unit else {})
        return pa.field(name, kind, metadata=metadata)

    share = "1, from 0 to 1"
    columns = [
        field("path", pa.string(), "file, relative to the root"),
        field("sha256", pa.string(), "SHA-256 of the file, hexadecimal"),
        field("status", pa.string(), "ok or the code of an error"),
        field("emotion", pa.string(), "the highest of the nine scores"),
        field("confidence", pa.float64(), "that score", share),
        *(field(f"score_{one}", pa.float64(), f"score of {one}", share) for one in EMOTIONS),
        field("band", pa.string(), "high, medium, low or unreliable"),
        field("familiarity", pa.float64(), "how like what the model learned from", share),
        field("quality", pa.string(), "verdict over the recording: good, fair or poor"),
        field("warnings", pa.list_(pa.string()), "codes of what limits the result"),
        field("duration_s", pa.float64(), "length of the recording", "s"),
        field("model", pa.string(), "model that answered"),
        field("error", pa.string(), "what was wrong, in words"),
    ]
    abouts = dict(zip(RESULT_COLUMNS, ("result of its own", "address of its JSON"), strict=True))
    for name in added:
        if name in abouts:
            columns.append(field(name, pa.string(), abouts[name]))
        else:
            columns.append(field(name, pa.float64(), "part of its base's score", share))
    if segments:
        parts = pa.struct(
            [
                field("emotion", pa.string(), "of the stretch"),
                field("start_s", pa.float64(), "from the start of the recording", "s"),
                field("end_s", pa.float64(), "from the start of the recording", "s"),
                field("confidence", pa.float64(), "score of the emotion there", share),
            ]
        )
        columns.append(field("segments", pa.list_(parts), "stretches of one emotion"))
    if embedding:
        vector = pa.list_(pa.float32(), embedding)
        about = "mean of the model's frame features; NaN where there is an error"
        columns.append(field("embedding", vector, about))
    return pa.schema(
        columns,
        metadata={
            "schema": SCHEMA,
            "program": f"emotion2vec_ui {__version__}",
            "labels": json.dumps(EMOTIONS),
            **facts,
        },
    )
