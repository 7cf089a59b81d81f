"""The index file: its tables, and the pass that brings them in step with the result folders."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store, vectors
from emotion2vec_ui.records.filters import storable
from emotion2vec_ui.records.report import Report, Unreadable, parse

INDEX_VERSION = 4
"""Kept in the file as user_version, negative for an index without embeddings; any other number
there has the index built anew."""

SETTLED_S = 3.0
"""A folder list is taken as unchanged when its time stamp is, and is older than this: two changes
within one tick of the file system's clock (4 ms on ext4, 2 s on FAT) look like one."""

LOCK_WAIT_S = 60.0
"""How long to wait while another process builds the index."""

_DECLARED = (
    "folder TEXT PRIMARY KEY",
    "mtime_ns INTEGER NOT NULL",
    "damaged INTEGER NOT NULL",
    "number INTEGER",
    "timestamp TEXT",
    "name TEXT",
    "name_folded TEXT",
    "sha256 TEXT",
    "duration_s REAL",
    "emotion TEXT",
    "confidence REAL",
    "band TEXT",
    "quality TEXT",
    "granularity TEXT",
    "model TEXT",
    "has_embedding INTEGER",
    "built_in INTEGER",
    "familiarity REAL",
    "scores TEXT",
    "space INTEGER",
    "vector INTEGER",
)
COLUMNS = tuple(column.split()[0] for column in _DECLARED)


@dataclass(frozen=True)
class Row:
    """One result as the index knows it; None where an old result does not tell."""

    __pydantic_config__: ClassVar = {"use_attribute_docstrings": True}

    folder: str
    """Its name below `outputs/`, which is also its id."""
    timestamp: str
    """Local time, "YYYY-MM-DD HH:MM:SS"."""
    name: str
    """Of the recording's file; empty where an old result does not tell."""
    sha256: str | None
    """Of the recording's file; null where an old result does not tell."""
    duration_s: float | None
    """Of the recording, in s; null where an old result does not tell."""
    emotion: str
    """The leader, one of the nine keys."""
    confidence: float
    """The leader's score, 0 to 1."""
    band: str
    """Of the calibrated confidence, else of the confidence: high, medium, low or unreliable."""
    quality: str | None
    """Verdict on the recording: good, fair or poor; null where an old result does not tell."""
    granularity: str
    """utterance or frame."""
    model: str | None
    """Id of the model that answered; null where an old result does not tell."""
    has_embedding: bool
    """Whether embedding.npy is there."""
    built_in: bool
    """Whether the compact model that comes with the program answered."""
    familiarity: float | None
    """How like what the model learnt from, 0 to 1; null where that was not measured."""
    scores: dict[str, float]
    """The nine scores of the whole recording, summing to 1."""


def connect(path: str, folder: Path, version: int) -> sqlite3.Connection:
    """Opens an index, made anew where it is absent or of another version.

    Args:
        path: of the file, or ":memory:".
        folder: of the vectors.
        version: `INDEX_VERSION`, negative for an index without embeddings.

    Raises:
        sqlite3.Error, OSError: it cannot be used.
    """
    # Transactions are begun by hand; one connection serves all threads under one lock.
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # After a power cut the last rows may be missing; the next comparison finds them.
        db.execute("PRAGMA synchronous = NORMAL")
        _make_tables(db, folder, version)
        vectors.check_files(db, folder)
    except BaseException:
        db.close()
        raise
    return db


def _make_tables(db: sqlite3.Connection, folder: Path, version: int) -> None:
    with transaction(db):
        if db.execute("PRAGMA user_version").fetchone()[0] != version:
            for table in ("results", "state", *vectors.TABLES):
                db.execute(f"DROP TABLE IF EXISTS {table}")
            db.execute(f"CREATE TABLE results ({', '.join(_DECLARED)}) WITHOUT ROWID")
            db.execute("CREATE INDEX by_time ON results (timestamp, number)")
            db.execute("CREATE UNIQUE INDEX by_vector ON results (space, vector)")
            db.execute("CREATE TABLE state (outputs_mtime_ns INTEGER, looked_ns INTEGER)")
            db.execute("INSERT INTO state VALUES (-1, 0)")
            vectors.make_tables(db)
            db.execute(f"PRAGMA user_version = {version}")
        vectors.remove_unnamed(db, folder)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """One transaction: committed at the end, undone by an error."""
    db.execute(begin)
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def synchronise(
    db: sqlite3.Connection, outputs: Path, folder: Path, *, times: bool, embeddings: bool
) -> None:
    """Adds what is new and drops what is gone; with `times`, reads again what was changed."""
    if not times and _is_settled(db, outputs):
        return
    with transaction(db), vectors.Writer(db, folder) as writer:
        # Looking happens inside the transaction: what another process looked at earlier can then
        # never overwrite what this one saw later.
        looked_ns, mtime_ns = time.time_ns(), _mtime_ns(outputs)
        found = {entry.name: entry for entry in store.result_folders(outputs)}
        known = dict(db.execute("SELECT folder, mtime_ns FROM results"))
        for name in known.keys() - found.keys():
            _drop(db, writer, name)
        for name, changed_ns in _changed(found, known, times=times):
            _drop(db, writer, name)
            _add(db, writer if embeddings else None, name, changed_ns, outputs / name)
        writer.flush()
        db.execute("UPDATE state SET outputs_mtime_ns = ?, looked_ns = ?", (mtime_ns, looked_ns))


def _drop(db: sqlite3.Connection, writer: vectors.Writer, name: str) -> None:
    writer.free(name)
    db.execute("DELETE FROM results WHERE folder = ?", (name,))


def _changed(
    found: Mapping[str, os.DirEntry[str]], known: Mapping[str, int], *, times: bool
) -> Iterator[tuple[str, int]]:
    """Folders that are new, or with `times` have another time than known, and their times."""
    for name, entry in found.items():
        if name in known and not times:
            continue
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            mtime_ns = entry.stat(follow_symlinks=False).st_mtime_ns
            if known.get(name) != mtime_ns:
                yield name, mtime_ns


def _is_settled(db: sqlite3.Connection, outputs: Path) -> bool:
    """Whether nothing was added or removed since the last look, told from one time stamp."""
    mtime_ns, looked_ns = db.execute("SELECT * FROM state").fetchone()
    return bool(
        mtime_ns == _mtime_ns(outputs) and looked_ns - mtime_ns > SETTLED_S * 1e9 and mtime_ns > 0
    )


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


# --- one folder -> one row ------------------------------------------------------------------------


def _add(
    db: sqlite3.Connection, writer: vectors.Writer | None, name: str, mtime_ns: int, path: Path
) -> None:
    """Adds one folder, a damaged one by its name only; with a writer, also its embedding."""
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {"folder": name, "mtime_ns": mtime_ns, "damaged": 1}
    model = None
    with contextlib.suppress(OSError, Unreadable):
        report = parse((path / store.RESULT_NAME).read_bytes())
        row, model = row_of(name, report), report.model
        values |= vars(row) | {
            "damaged": 0,
            "number": int((name.split("_")[3:] or ["1"])[0]),
            "name_folded": row.name.casefold(),
            "scores": json.dumps(list(row.scores.values())),
        }
    if writer is not None and model is not None:
        embedding = store.utterance_embedding(path)
        if embedding is not None:
            place = writer.add(storable(model.id), model.weights_sha256, embedding)
            values["space"], values["vector"] = place
    marks = ", ".join("?" * len(COLUMNS))
    db.execute(f"INSERT INTO results VALUES ({marks})", list(values.values()))


def row_of(name: str, report: Report) -> Row:
    """A report as the index knows it."""
    source, scores = report.source, report.nine_scores
    return Row(
        folder=name,
        timestamp=report.timestamp,
        name="" if source is None else storable(source.name),
        sha256=None if source is None else source.sha256,
        duration_s=None if source is None else source.duration_s,
        emotion=report.emotion,
        confidence=report.confidence,
        band=report.reliability.band,
        quality=None if report.quality is None else report.quality.verdict,
        granularity=report.granularity,
        model=None if report.model is None else storable(report.model.id),
        has_embedding=report.embedding is not None,
        built_in=report.model is not None and report.model.is_built_in,
        familiarity=report.reliability.familiarity,
        scores={emotion: scores[emotion] for emotion in EMOTIONS},
    )


def from_columns(raw: Sequence[Any]) -> Row:
    """The values of `COLUMNS` as a row."""
    values = dict(zip(COLUMNS, raw, strict=True))
    values |= {name: bool(values[name]) for name in ("has_embedding", "built_in")}
    values["scores"] = dict(zip(EMOTIONS, json.loads(values["scores"]), strict=True))
    return Row(**{field.name: values[field.name] for field in fields(Row)})
