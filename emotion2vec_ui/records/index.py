"""Past results: an SQLite index over the result folders, searched and exported.

What counts are the folders; the index only makes them quick to search, and can be deleted at any
time. Every query first synchronises it: the names of the folders, and now and then their times, are
compared with those indexed, inside one write transaction, so that any number of processes may do so
at once.
A folder whose result.json cannot be used is counted and otherwise left alone.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from emotion2vec_ui.errors import ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store
from emotion2vec_ui.records.filters import SORTS, Filters, storable, where_clause
from emotion2vec_ui.records.report import Report, Unreadable, parse

log = logging.getLogger(__name__)

INDEX_NAME = ".index.sqlite"

INDEX_VERSION = 3
"""Kept in the file as user_version; any other number there has the index built anew."""

SETTLED_S = 3.0
"""A folder list is taken as unchanged when its time stamp is, and is older than this: two changes
within one tick of the file system's clock (4 ms on ext4, 2 s on FAT) look like one."""

TIMES_EVERY_S = 60.0
"""How often folders already indexed are looked at for changes: results are written once, and only
a person with an editor changes one."""

LOCK_WAIT_S = 60.0
"""How long to wait while another process builds the index."""

_COLUMNS = (
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
)
_NAMES = tuple(column.split()[0] for column in _COLUMNS)


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


@dataclass(frozen=True)
class Page:
    """Some of the rows found."""

    rows: list[Row]
    """Those from `offset` on."""
    total: int
    """How many there are in all."""
    damaged: int
    """Folders whose result.json cannot be used, whatever the filters."""


T = TypeVar("T")


class History:
    """The results in one outputs folder. Threads share one; processes may each have their own.

    Args:
        outputs: the folder of all results; need not exist yet.
    """

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._times_due_s = 0.0

    # --- queries ---

    def search(self, filters: Filters | None = None) -> Page:
        """The rows that fit, one page of them."""
        filters = filters or Filters()
        condition, values = where_clause(filters)
        # Every word of this text is from this module; what users send is bound.
        query = (
            f"SELECT {', '.join(_NAMES)} FROM results WHERE {condition} "
            f"ORDER BY {SORTS[filters.sort]} LIMIT ? OFFSET ?"
        )

        def ask(db: sqlite3.Connection) -> Page:
            rows = [
                _row(one) for one in db.execute(query, [*values, filters.limit, filters.offset])
            ]
            total = db.execute(
                f"SELECT count(*) FROM results WHERE {condition}", values
            ).fetchone()[0]
            damaged = db.execute("SELECT count(*) FROM results WHERE damaged").fetchone()[0]
            return Page(rows, total, damaged)

        return self._query(ask)

    def models(self) -> list[str]:
        """The ids of all models that ever answered, for a choice of filters."""
        query = "SELECT DISTINCT model FROM results WHERE model IS NOT NULL ORDER BY model"
        return self._query(lambda db: [one[0] for one in db.execute(query)])

    def get(self, folder: str) -> Report:
        """The report in a folder.

        Raises:
            ResultNotFound: no such result, or its result.json cannot be used.
        """
        path = self.path(folder)
        try:
            return parse((path / store.RESULT_NAME).read_bytes())
        except (OSError, Unreadable):
            raise ResultNotFound(name=f"{folder}/{store.RESULT_NAME}") from None

    def path(self, folder: str) -> Path:
        """The folder itself.

        Raises:
            ResultNotFound: there is none, or the name is not one of a result.
        """
        return store.find(self.outputs, folder)

    # --- changes ---

    def delete(self, folders: Sequence[str]) -> list[str]:
        """Removes results for good; returns those that were there.

        Raises:
            ResultNotFound: a name is not one of a result; nothing was removed then.
        """
        names = list(dict.fromkeys(folders))
        for name in names:
            if not store.is_result_name(name):
                raise ResultNotFound(name=name[:200])
        removed = []
        for name in names:
            with contextlib.suppress(ResultNotFound, FileNotFoundError):
                store.discard(self.path(name))
                removed.append(name)
        return removed

    def refresh(self) -> None:
        """Makes the next query notice also what was changed inside a folder just now."""
        self._times_due_s = 0.0

    def close(self) -> None:
        """Closes the index file."""
        with self._lock:
            self._disconnect()

    # --- export ---

    def export_csv(self, filters: Filters | None = None, *, bom: bool = True) -> Iterator[str]:
        """All rows that fit as lines of CSV (RFC 4180); `limit` and `offset` are not used.

        Args:
            filters: which, and in what order.
            bom: begin with a byte order mark, without which Excel reads Chinese as Latin-1.
        """
        filters = filters or Filters()
        condition, values = where_clause(filters)
        query = (
            f"SELECT {', '.join(_NAMES)} FROM results WHERE {condition} "
            f"ORDER BY {SORTS[filters.sort]}"
        )
        # Fetched at once: a reader as slow as a download must not hold the index.
        found = self._query(lambda db: db.execute(query, values).fetchall())
        plain = [field.name for field in fields(Row) if field.name != "scores"]
        header = plain + [f"score_{emotion}" for emotion in EMOTIONS]
        yield ("\ufeff" if bom else "") + _csv_line(header)
        for raw in found:
            row = _row(raw)
            cells = [getattr(row, name) for name in plain]
            yield _csv_line([*cells, *row.scores.values()])

    # --- the index ---

    def _query(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Synchronises the index with the folders and queries it; a broken one is built anew."""
        with self._lock:
            try:
                return self._ask(ask)
            except (sqlite3.Error, OSError) as error:
                log.warning("the history index is built anew: %s", error)
            try:
                self._discard_index()
                return self._ask(ask)
            except (sqlite3.Error, OSError) as error:
                # A disk that is full or may not be written: results can still be looked through.
                log.warning("the history index is kept in memory: %s", error)
            self._disconnect()
            self._connection = _connect(":memory:")
            return self._ask(ask)

    def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._open()
        # Names tell what is new or gone, at a tenth of the cost of the times, which tell what was
        # changed by hand.
        times = time.monotonic() >= self._times_due_s
        _synchronise(self._connection, self.outputs, times=times)
        if times:
            self._times_due_s = time.monotonic() + TIMES_EVERY_S
        return ask(self._connection)

    def _open(self) -> sqlite3.Connection:
        self.outputs.mkdir(parents=True, exist_ok=True)
        return _connect(str(self.outputs / INDEX_NAME))

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _discard_index(self) -> None:
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            (self.outputs / f"{INDEX_NAME}{suffix}").unlink(missing_ok=True)


# --- the file -------------------------------------------------------------------------------------


def _connect(path: str) -> sqlite3.Connection:
    # Transactions are begun by hand; one connection serves all threads under one lock.
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # After a power cut the last rows may be missing; the next comparison finds them.
        db.execute("PRAGMA synchronous = NORMAL")
        _make_tables(db)
    except BaseException:
        db.close()
        raise
    return db


def _make_tables(db: sqlite3.Connection) -> None:
    with _transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == INDEX_VERSION:
            return
        for table in ("results", "state"):
            db.execute(f"DROP TABLE IF EXISTS {table}")
        db.execute(f"CREATE TABLE results ({', '.join(_COLUMNS)}) WITHOUT ROWID")
        db.execute("CREATE INDEX by_time ON results (timestamp, number)")
        db.execute("CREATE TABLE state (outputs_mtime_ns INTEGER, looked_ns INTEGER)")
        db.execute("INSERT INTO state VALUES (-1, 0)")
        db.execute(f"PRAGMA user_version = {INDEX_VERSION}")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _synchronise(db: sqlite3.Connection, outputs: Path, *, times: bool) -> None:
    """Adds what is new and drops what is gone; with `times`, reads again what was changed."""
    if not times and _is_settled(db, outputs):
        return
    with _transaction(db):
        # Looking happens inside the transaction: what another process looked at earlier can then
        # never overwrite what this one saw later.
        looked_ns, mtime_ns = time.time_ns(), _mtime_ns(outputs)
        found = {entry.name: entry for entry in store.result_folders(outputs)}
        known = dict(db.execute("SELECT folder, mtime_ns FROM results"))
        gone = [(name,) for name in known.keys() - found.keys()]
        db.executemany("DELETE FROM results WHERE folder = ?", gone)
        marks = ", ".join("?" * len(_NAMES))
        new = _new_rows(found, known, times=times)
        db.executemany(f"INSERT OR REPLACE INTO results VALUES ({marks})", new)
        db.execute("UPDATE state SET outputs_mtime_ns = ?, looked_ns = ?", (mtime_ns, looked_ns))


def _new_rows(
    found: Mapping[str, os.DirEntry[str]], known: Mapping[str, int], *, times: bool
) -> Iterator[list[Any]]:
    for name, entry in found.items():
        if name in known and not times:
            continue
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            mtime_ns = entry.stat(follow_symlinks=False).st_mtime_ns
            if known.get(name) != mtime_ns:
                yield _values(name, mtime_ns, Path(entry.path))


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


def _values(name: str, mtime_ns: int, path: Path) -> list[Any]:
    """The columns of one folder; a damaged one has only its name."""
    values: dict[str, Any] = dict.fromkeys(_NAMES)
    values |= {"folder": name, "mtime_ns": mtime_ns, "damaged": 1}
    with contextlib.suppress(OSError, Unreadable):
        row = row_of(name, parse((path / store.RESULT_NAME).read_bytes()))
        values |= vars(row) | {
            "damaged": 0,
            "number": int((name.split("_")[3:] or ["1"])[0]),
            "name_folded": row.name.casefold(),
            "scores": json.dumps(list(row.scores.values())),
        }
    return list(values.values())


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


def _row(raw: Sequence[Any]) -> Row:
    values = dict(zip(_NAMES, raw, strict=True))
    values |= {name: bool(values[name]) for name in ("has_embedding", "built_in")}
    values["scores"] = dict(zip(EMOTIONS, json.loads(values["scores"]), strict=True))
    return Row(**{field.name: values[field.name] for field in fields(Row)})


# --- CSV ------------------------------------------------------------------------------------------


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([_safe_cell(cell) for cell in cells])
    return line.getvalue()


def _safe_cell(cell: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP)."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return f"'{cell}"
    return cell
