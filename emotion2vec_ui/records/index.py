"""Past results: an SQLite index over the result folders, searched, compared and exported.

The folders are the truth; the index only makes them quick to search, and can be thrown away at any
time. Every question first brings it in step: the names of the folders, and now and then their
times, are compared with those indexed, inside one write transaction, so that any number of
processes may do so at once.
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
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emotion2vec_ui.errors import BadField, ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import scoring
from emotion2vec_ui.records import store as results

log = logging.getLogger(__name__)

INDEX_NAME = ".index.sqlite"

INDEX_VERSION = 1
"""Kept in the file as user_version; any other number there has the index built anew."""

BANDS = ("high", "medium", "low", "unreliable")
QUALITIES = ("good", "fair", "poor")
NONE = "none"
"""Stands for "not known" among quality verdicts: results of the first WebUI have none."""

SETTLED_S = 3.0
"""A folder list is taken as unchanged when its time stamp is, and is older than this: two changes
within one tick of the file system's clock (4 ms on ext4, 2 s on FAT) look like one."""

TIMES_EVERY_S = 60.0
"""How often folders already indexed are looked at for changes: results are written once, and only
a person with an editor changes one."""

LOCK_WAIT_S = 60.0
"""How long to wait while another process builds the index."""

MAX_LIMIT = 1000
MIN_COMPARED, MAX_COMPARED = 2, 8

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
    "scores TEXT",
)
_NAMES = tuple(column.split()[0] for column in _COLUMNS)

# `number` is the folder's suffix: _2 comes before _10.
SORTS = {
    "newest": "timestamp DESC, number DESC",
    "oldest": "timestamp, number",
    "confidence": "confidence DESC, timestamp DESC, number DESC",
    "confidence_low": "confidence, timestamp DESC, number DESC",
    "name": "name_folded, timestamp DESC, number DESC",
    "duration": "duration_s DESC, timestamp DESC, number DESC",
}


@dataclass(frozen=True)
class Row:
    """One result as the index knows it; None where an old result does not tell."""

    folder: str
    timestamp: str
    name: str
    sha256: str | None
    duration_s: float | None
    emotion: str
    confidence: float
    band: str
    quality: str | None
    granularity: str
    model: str | None
    has_embedding: bool
    scores: dict[str, float]


@dataclass(frozen=True)
class Filters:
    """What to find. Within a field any of its values fits; the fields must all fit.

    Attributes:
        emotion: keys of `EMOTIONS`.
        band: of `BANDS`.
        quality: "good", "fair", "poor", or "none" where the recording was not judged.
        model: ids.
        text: part of the file name, in any case.
        date_from, date_to: "YYYY-MM-DD", both included.
        sort: a key of `SORTS`.
        limit, offset: the page; at most `MAX_LIMIT` rows.
    """

    emotion: tuple[str, ...] = ()
    band: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    text: str = ""
    date_from: str = ""
    date_to: str = ""
    sort: str = "newest"
    limit: int = 50
    offset: int = 0

    def __post_init__(self) -> None:
        for field, allowed in (
            ("emotion", EMOTIONS),
            ("band", BANDS),
            ("quality", (*QUALITIES, NONE)),
        ):
            for value in getattr(self, field):
                _check(field, value, allowed)
        _check("sort", self.sort, tuple(SORTS))
        for field in ("date_from", "date_to"):
            _check_date(field, getattr(self, field))
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadField(field="limit", value=str(self.limit), allowed=f"1-{MAX_LIMIT}")
        if not 0 <= self.offset < 2**31:
            raise BadField(field="offset", value=str(self.offset), allowed="0-")


@dataclass(frozen=True)
class Page:
    """Some of the rows found.

    Attributes:
        rows: those from `offset` on.
        total: how many there are in all.
        damaged: folders whose result.json cannot be used, whatever the filters.
    """

    rows: list[Row]
    total: int
    damaged: int


@dataclass(frozen=True)
class Compared:
    """One result in a comparison.

    Attributes:
        row: as in the index.
        report: the content of result.json.
        scores: the nine, of the whole recording.
        differences: the same less those of the first result.
    """

    row: Row
    report: dict[str, Any]
    scores: dict[str, float]
    differences: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Results side by side; the first is what the others are compared with.

    Attributes:
        results: in the order asked for.
        distances: total variation between the first's scores and each: 0 (equal) to 1 (disjoint).
        similarity: cosine of the embeddings, one row and column per result; None where one of the
            two has none, or they come from different models.
        caveats: "models_differ" (scores and embeddings of two models are not on one scale),
            "qualities_differ", "same_recording", "granularities_differ".
    """

    results: list[Compared]
    distances: list[float]
    similarity: list[list[float | None]]
    caveats: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; whole reports stay behind their own address."""
        return {
            "results": [
                row_dict(one.row)
                | {"scores": one.scores, "differences": one.differences, "distance": distance}
                for one, distance in zip(self.results, self.distances, strict=True)
            ],
            "similarity": self.similarity,
            "caveats": self.caveats,
        }


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

    # --- questions ---

    def search(self, filters: Filters | None = None) -> Page:
        """The rows that fit, one page of them."""
        filters = filters or Filters()
        where, values = _where(filters)
        # Every word of this text is from this module; what users send is bound.
        query = (
            f"SELECT {', '.join(_NAMES)} FROM results WHERE {where} "
            f"ORDER BY {SORTS[filters.sort]} LIMIT ? OFFSET ?"
        )

        def ask(db: sqlite3.Connection) -> Page:
            rows = [
                _row(one) for one in db.execute(query, [*values, filters.limit, filters.offset])
            ]
            total = db.execute(f"SELECT count(*) FROM results WHERE {where}", values).fetchone()[0]
            damaged = db.execute("SELECT count(*) FROM results WHERE damaged").fetchone()[0]
            return Page(rows, total, damaged)

        return self._in_step(ask)

    def models(self) -> list[str]:
        """The ids of all models that ever answered, for a choice of filters."""
        query = "SELECT DISTINCT model FROM results WHERE model IS NOT NULL ORDER BY model"
        return self._in_step(lambda db: [one[0] for one in db.execute(query)])

    def get(self, folder: str) -> dict[str, Any]:
        """The report in a folder, with an utterance's fields at least.

        Raises:
            ResultNotFound: no such result, or its result.json cannot be used.
        """
        path = self.path(folder)
        try:
            report = _read(path)
        except _Damaged:
            raise ResultNotFound(name=f"{folder}/{results.RESULT_NAME}") from None
        return report

    def path(self, folder: str) -> Path:
        """The folder itself.

        Raises:
            ResultNotFound: there is none, or the name is not one of a result.
        """
        path = self.outputs / folder
        # The name is matched, never resolved: no "..", no link, nothing else in outputs.
        if not results.RESULT_FOLDER.fullmatch(folder) or path.is_symlink() or not path.is_dir():
            raise ResultNotFound(name=folder[:200])
        return path

    def compare(self, folders: Sequence[str]) -> Comparison:
        """Several results side by side.

        Raises:
            BadField: fewer than 2 or more than 8 different folders.
            ResultNotFound: one of them is not there.
        """
        names = list(dict.fromkeys(folders))
        if not MIN_COMPARED <= len(names) <= MAX_COMPARED:
            allowed = f"{MIN_COMPARED}-{MAX_COMPARED} different results"
            raise BadField(field="folder", value=str(len(names)), allowed=allowed)
        reports = [self.get(name) for name in names]
        rows = [_describe(name, one) for name, one in zip(names, reports, strict=True)]
        first = rows[0].scores
        compared = [
            Compared(
                row,
                report,
                row.scores,
                {key: round(row.scores[key] - first[key], 6) for key in first},
            )
            for row, report in zip(rows, reports, strict=True)
        ]
        distances = [
            round(sum(abs(value) for value in one.differences.values()) / 2, 6) for one in compared
        ]
        vectors = [_embedding(self.outputs / name) for name in names]
        return Comparison(compared, distances, _similarity(rows, vectors), _caveats(rows))

    # --- changes ---

    def delete(self, folders: Sequence[str]) -> list[str]:
        """Removes results for good; returns those that were there.

        Raises:
            ResultNotFound: a name is not one of a result; nothing was removed then.
        """
        names = list(dict.fromkeys(folders))
        for name in names:
            if not results.RESULT_FOLDER.fullmatch(name):
                raise ResultNotFound(name=name[:200])
        removed = []
        for name in names:
            with contextlib.suppress(ResultNotFound, FileNotFoundError):
                results.discard(self.path(name))
                removed.append(name)
        return removed

    def refresh(self) -> None:
        """Has the next question notice also what was changed inside a folder just now."""
        self._times_due_s = 0.0

    def rebuild(self) -> int:
        """Forgets the index and reads every folder again; returns how many results there are."""
        with self._lock:
            self._discard_index()
        return self.search(Filters(limit=1)).total

    def close(self) -> None:
        """Gives the index file back."""
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
        where, values = _where(filters)
        query = (
            f"SELECT {', '.join(_NAMES)} FROM results WHERE {where} ORDER BY {SORTS[filters.sort]}"
        )
        # Fetched at once: a reader as slow as a download must not hold the index.
        found = self._in_step(lambda db: db.execute(query, values).fetchall())
        plain = [field.name for field in fields(Row) if field.name != "scores"]
        header = plain + [f"score_{emotion}" for emotion in EMOTIONS]
        yield ("\ufeff" if bom else "") + _csv_line(header)
        for raw in found:
            row = _row(raw)
            cells = [getattr(row, name) for name in plain]
            yield _csv_line([*cells, *row.scores.values()])

    # --- the index ---

    def _in_step(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Brings the index in step with the folders and asks it; a broken one is built anew."""
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


def row_dict(row: Row) -> dict[str, Any]:
    """A row as plain data."""
    return {field.name: getattr(row, field.name) for field in fields(Row)}


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
        found = {entry.name: entry for entry in _result_folders(outputs)}
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


def _result_folders(outputs: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(outputs)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if results.RESULT_FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry


# --- one folder -> one row ------------------------------------------------------------------------


class _Damaged(Exception):
    """A result.json that is missing, is no JSON, or lacks what every result has."""


def _values(name: str, mtime_ns: int, path: Path) -> list[Any]:
    """The columns of one folder; a damaged one has only its name."""
    values: dict[str, Any] = dict.fromkeys(_NAMES)
    values |= {"folder": name, "mtime_ns": mtime_ns, "damaged": 1}
    with contextlib.suppress(_Damaged):
        row = _describe(name, _read(path))
        values |= row_dict(row) | {
            "damaged": 0,
            "number": int((name.split("_")[3:] or ["1"])[0]),
            "name_folded": row.name.casefold(),
            "scores": json.dumps(list(row.scores.values())),
        }
    return list(values.values())


def _read(path: Path) -> dict[str, Any]:
    """The report in a folder.

    Raises:
        _Damaged: it cannot be used.
    """
    try:
        text = (path / results.RESULT_NAME).read_bytes()
        report = json.loads(text, parse_constant=_refuse)
        _describe(path.name, report)
    except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise _Damaged(path.name) from error
    return dict(report)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _describe(name: str, report: Mapping[str, Any]) -> Row:
    """The row of a report; raises what reading an unfit one raises."""
    source = report.get("source") or {}
    emotion, confidence = report["emotion"], float(report["confidence"])
    granularity, timestamp = report["granularity"], report["timestamp"]
    if emotion not in EMOTIONS or not 0 <= confidence <= 1:
        raise ValueError("not a result")
    if granularity not in ("utterance", "frame"):
        raise ValueError("not a granularity")
    if not _is_time(timestamp, "%Y-%m-%d %H:%M:%S"):
        raise ValueError("not a time")
    scores = utterance_scores(report)
    band = (report.get("reliability") or {}).get("band")
    quality = (report.get("quality") or {}).get("verdict")
    duration_s = source.get("duration_s")
    return Row(
        folder=name,
        timestamp=timestamp,
        name=_text(source.get("name")) or "",
        sha256=_text(source.get("sha256")),
        duration_s=None if duration_s is None else float(duration_s),
        emotion=emotion,
        confidence=confidence,
        # Results of the first WebUI have no band; it follows from the confidence alone.
        band=band if band in BANDS else _band(scores),
        quality=quality if quality in QUALITIES else None,
        granularity=granularity,
        model=_text((report.get("model") or {}).get("id")),
        has_embedding=report.get("embedding") is not None,
        scores=scores,
    )


def _band(scores: Mapping[str, float]) -> str:
    return scoring.read(scores, quality_verdict=None, built_in=False).band


def _text(value: Any) -> str | None:
    """As text that can be stored: half of a surrogate pair cannot."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def utterance_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """The nine scores of the whole recording, in either granularity.

    The first WebUI wrote no utterance scores beside its frames; their mean stands in.
    """
    scores = report.get("utterance_scores", report["scores"])
    if isinstance(scores, list):
        mean = np.asarray(scores, np.float64).mean(axis=0)
        scores = dict(zip(report.get("labels", EMOTIONS), mean.tolist(), strict=True))
    nine = {emotion: float(scores[emotion]) for emotion in EMOTIONS}
    if not np.isfinite(list(nine.values())).all():
        raise ValueError("scores are not finite")
    return nine


def _row(raw: Sequence[Any]) -> Row:
    values = dict(zip(_NAMES, raw, strict=True))
    values["has_embedding"] = bool(values["has_embedding"])
    values["scores"] = dict(zip(EMOTIONS, json.loads(values["scores"]), strict=True))
    return Row(**{field.name: values[field.name] for field in fields(Row)})


# --- filters --------------------------------------------------------------------------------------


def _where(filters: Filters) -> tuple[str, list[Any]]:
    """The condition with a `?` for each value, and the values."""
    terms, values = ["NOT damaged"], []
    for column in ("emotion", "band", "quality", "model"):
        wanted = list(getattr(filters, column))
        if wanted:
            marks = ", ".join("?" * len(wanted))
            # A column that knows nothing (NULL) is found under its own word.
            terms.append(f"ifnull({column}, '{NONE}') IN ({marks})")
            values += wanted
    if filters.text:
        # instr, not LIKE: % and _ are ordinary letters of file names.
        terms.append("instr(name_folded, ?) > 0")
        values.append((_text(filters.text) or "").casefold())
    if filters.date_from:
        terms.append("timestamp >= ?")
        values.append(filters.date_from)
    if filters.date_to:
        terms.append("timestamp <= ?")
        values.append(f"{filters.date_to} 23:59:59")
    return " AND ".join(terms), values


def _check(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise BadField(field=field, value=repr(value)[:100], allowed=", ".join(allowed))


def _check_date(field: str, value: str) -> None:
    if value and not _is_time(value, "%Y-%m-%d"):
        raise BadField(field=field, value=repr(value)[:100], allowed="YYYY-MM-DD")


def _is_time(value: str, form: str) -> bool:
    """Whether `value` is written just so: strptime alone takes "2026-1-4", which sorts wrongly."""
    try:
        return datetime.strptime(value, form).strftime(form) == value
    except ValueError:
        return False


# --- comparison -----------------------------------------------------------------------------------


def _embedding(path: Path) -> np.ndarray | None:
    """The utterance embedding, float64 (dim,): of frames, their mean; None where there is none."""
    try:
        vector = np.load(path / results.EMBEDDING_NAME, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError, EOFError):
        return None
    if vector.ndim == 2 and len(vector):
        vector = vector.mean(axis=0)
    return vector if vector.ndim == 1 and np.linalg.norm(vector) > 0 else None


def _similarity(
    rows: Sequence[Row], vectors: Sequence[np.ndarray | None]
) -> list[list[float | None]]:
    def cosine(i: int, j: int) -> float | None:
        a, b = vectors[i], vectors[j]
        if a is None or b is None or rows[i].model != rows[j].model or a.shape != b.shape:
            return None
        return round(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))), 6)

    return [[cosine(i, j) for j in range(len(rows))] for i in range(len(rows))]


def _caveats(rows: Sequence[Row]) -> list[str]:
    def distinct(values: Iterator[Any]) -> int:
        return len(set(values))

    found = []
    if distinct(row.model for row in rows) > 1:
        found.append("models_differ")
    if distinct(row.quality for row in rows) > 1:
        found.append("qualities_differ")
    if distinct(row.granularity for row in rows) > 1:
        found.append("granularities_differ")
    if rows[0].sha256 and distinct(row.sha256 for row in rows) == 1:
        found.append("same_recording")
    return found


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
