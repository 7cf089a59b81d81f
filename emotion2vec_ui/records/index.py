"""Past results: an SQLite index over the result folders, searched and exported.

What counts are the folders; the index only makes them quick to search, and can be deleted at any
time. Every query first synchronises it: the names of the folders, and now and then their times, are
compared with those indexed, inside one write transaction, so that any number of processes may do so
at once.
A folder whose result.json cannot be used is counted and otherwise left alone.

The utterance embeddings of the results are kept beside it (`records/vectors`), under the same
transactions.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emotion2vec_ui.errors import ResultNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store, vectors
from emotion2vec_ui.records.filters import SORTS, Filters, where_clause
from emotion2vec_ui.records.index_file import (
    COLUMNS,
    INDEX_VERSION,
    Row,
    connect,
    from_columns,
    synchronise,
    transaction,
)
from emotion2vec_ui.records.report import Report, Unreadable, parse
from emotion2vec_ui.records.vectors import EmbeddingSpace, Snapshot

log = logging.getLogger(__name__)

INDEX_NAME = ".index.sqlite"

TIMES_EVERY_S = 60.0
"""How often folders already indexed are looked at for changes: results are written once, and only
a person with an editor changes one."""


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
        embeddings: keep the utterance embeddings beside the index (not with `--no-index`).
    """

    def __init__(self, outputs: Path, *, embeddings: bool = True) -> None:
        self.outputs = outputs
        self.embeddings = embeddings
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._times_due_s = 0.0
        self._reader = vectors.Reader(outputs)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    # --- queries ---

    def search(self, filters: Filters | None = None) -> Page:
        """The rows that fit, one page of them."""
        filters = filters or Filters()
        condition, values = where_clause(filters)
        # Every word of this text is from this module; what users send is bound.
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM results WHERE {condition} "
            f"ORDER BY {SORTS[filters.sort]} LIMIT ? OFFSET ?"
        )

        def ask(db: sqlite3.Connection) -> Page:
            rows = [
                from_columns(one)
                for one in db.execute(query, [*values, filters.limit, filters.offset])
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

    # --- embeddings ---

    def spaces(self) -> list[EmbeddingSpace]:
        """Which models' embeddings there are: that with most first, of equal ones the latest."""
        return self._query(vectors.spaces)

    def snapshot(self, model: str, weights_sha256: str | None, dim: int) -> Snapshot | None:
        """The embeddings of a space as they are now; None where it never had one.

        They can be searched without holding up others; `rows_at` then tells whose they are.

        Args:
            model: id of the space's model.
            weights_sha256: of its checkpoint.
            dim: of its embeddings.
        """

        def ask(db: sqlite3.Connection) -> Snapshot | None:
            number = vectors.find(db, model, weights_sha256, dim)
            return None if number is None else self._reader.snapshot(db, number)

        return self._query(ask)

    def rows_at(self, snapshot: Snapshot, numbers: Sequence[int] | None = None) -> list[Row] | None:
        """The results that these rows of a snapshot belong to, in their order.

        Args:
            snapshot: of the rows.
            numbers: which, none of them free; None for all that are not, by rising number.

        Returns:
            None where a result was removed since: another may stand in its row by now.
        """
        query = f"SELECT {', '.join(COLUMNS)} FROM results WHERE space = ?"

        def ask(db: sqlite3.Connection) -> list[Row] | None:
            if vectors.freed(db) != snapshot.freed:
                return None
            if numbers is None:
                found = db.execute(f"{query} ORDER BY vector", (snapshot.space,)).fetchall()
                # Later ones are not in the snapshot: behind its end, or in rows then free.
                at = COLUMNS.index("vector")
                then = set(range(len(snapshot.rows))) - set(snapshot.free.tolist())
                return [from_columns(raw) for raw in found if raw[at] in then]
            one = f"{query} AND vector = ?"
            return [
                from_columns(db.execute(one, (snapshot.space, int(number))).fetchone())
                for number in numbers
            ]

        return self._query(ask)

    def add_embedding(self, folder: str, vector: np.ndarray) -> None:
        """Keeps the utterance embedding of a result that was saved without one.

        Args:
            folder: the result, whose report names the model that gave the embedding.
            vector: float (dim,).

        Raises:
            ResultNotFound: it is not there.
            DiskFull, OutputError: the embedding cannot be written.
        """
        store.add_embedding(self.path(folder), vector)
        self.refresh()

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
            f"SELECT {', '.join(COLUMNS)} FROM results WHERE {condition} "
            f"ORDER BY {SORTS[filters.sort]}"
        )
        # Fetched at once: a reader as slow as a download must not hold the index.
        found = self._query(lambda db: db.execute(query, values).fetchall())
        plain = [field.name for field in fields(Row) if field.name != "scores"]
        header = plain + [f"score_{emotion}" for emotion in EMOTIONS]
        yield ("\ufeff" if bom else "") + _csv_line(header)
        for raw in found:
            row = from_columns(raw)
            cells = [getattr(row, name) for name in plain]
            yield _csv_line([*cells, *row.scores.values()])

    # --- the index ---

    def _query(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Synchronises the index with the folders and queries it; a broken one is built anew."""
        with self._lock:
            with contextlib.suppress(sqlite3.Error, OSError):
                return self._ask(ask)
            # Another process may have built it anew, under the name of the one that is open here.
            self._disconnect()
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
            self._scratch = tempfile.TemporaryDirectory(prefix="emotion2vec-")
            self._connection = self._connect(":memory:", Path(self._scratch.name))
            return self._ask(ask)

    def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self.outputs.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect(str(self.outputs / INDEX_NAME), self.outputs)
        # Names tell what is new or gone, at a tenth of the cost of the times, which tell what was
        # changed by hand.
        times = time.monotonic() >= self._times_due_s
        synchronise(
            self._connection,
            self.outputs,
            self._reader.folder,
            times=times,
            embeddings=self.embeddings,
        )
        if times:
            self._times_due_s = time.monotonic() + TIMES_EVERY_S
        with transaction(self._connection, "BEGIN"):  # all that it reads is of one moment
            return ask(self._connection)

    def _connect(self, path: str, folder: Path) -> sqlite3.Connection:
        """Opens an index whose vectors are in `folder`."""
        self._reader = vectors.Reader(folder)
        return connect(path, folder, INDEX_VERSION if self.embeddings else -INDEX_VERSION)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _discard_index(self) -> None:
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            (self.outputs / f"{INDEX_NAME}{suffix}").unlink(missing_ok=True)


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
