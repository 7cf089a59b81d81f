"""All jobs, in a SQLite file beside their folders: what there is to do, and how each one stands.

Each change is a transaction of its own in SQLite's write-ahead log. While a server has the file
open no other can, so that no job is done twice at a time: SQLite's own lock, which ends with the
process.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from emotion2vec_ui import texts
from emotion2vec_ui.errors import DiskFull, EmotionError, JobsElsewhere, OutputError

Status = Literal["QUEUED", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
"""Hume's words for the state of a job of its batch API, and one for what it does not have."""

QUEUED: Final = "QUEUED"
IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"

STATUSES: tuple[Status, ...] = get_args(Status)
ENDED: tuple[Status, ...] = (COMPLETED, FAILED, CANCELLED)

RETRY_AFTER_S = 10
"""`Retry-After` while another server has the list: a restart takes about as long."""

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    granularity TEXT NOT NULL,
    embedding INTEGER NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    status TEXT NOT NULL,
    tried_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms INTEGER,
    model TEXT,
    embedding_dim INTEGER NOT NULL,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    audio_s REAL NOT NULL,
    error TEXT
);
"""

_LATER = {
    "save": "INTEGER NOT NULL DEFAULT 0",
    "subclass": "TEXT NOT NULL DEFAULT '[]'",
    "lang": "TEXT NOT NULL DEFAULT 'en'",
    "subclass_columns": "TEXT NOT NULL DEFAULT '[]'",
}
"""Columns that are added to a list that lacks them, such as one of an earlier version."""


@dataclass(frozen=True)
class JobError:
    """Why a job failed or waits, in one language."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Wanted:
    """What is asked of a job.

    Attributes:
        granularity: "utterance" or "frame".
        embedding: whether embeddings are wanted.
        save: whether each recording is kept as a result of its own.
        subclass: sets of sub-classes: name and version.
        lang: of the sentences in results.
    """

    granularity: str = "utterance"
    embedding: bool = False
    save: bool = False
    subclass: tuple[tuple[str, int], ...] = ()
    lang: str = "en"


@dataclass(frozen=True)
class Job:
    """Many recordings that were sent together.

    Attributes:
        id: a UUID.
        owner: who sent it, as digits that tell no key and no address; owners take turns.
        name: of its first file or of its archive.
        granularity: "utterance" or "frame".
        embedding: whether embeddings are wanted.
        files: how many recordings.
        bytes: of them together.
        created_ms: when it was sent, in ms since 1970, as the other times.
        status: one of `STATUSES`.
        tried_ms: when it was begun last; 0 where it never was.
        started_ms: when it was begun first, or None.
        ended_ms: when it ended, or None.
        model: id of the model that answers, once it is known.
        embedding_dim: numbers in each embedding, 0 for none.
        done: recordings that have a row.
        failed: those of them with an error.
        audio_s: length of the recordings that were recognised, in s.
        error: by language, why it failed or waits; empty where nothing is wrong.
        save: whether each recording is kept as a result of its own.
        subclass: sets of sub-classes: name and version.
        lang: of the sentences in results.
        subclass_columns: of its table, once they are known.
    """

    id: str
    owner: str
    name: str
    granularity: str
    embedding: bool
    files: int
    bytes: int
    created_ms: int
    status: Status = QUEUED
    tried_ms: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    model: str | None = None
    embedding_dim: int = 0
    done: int = 0
    failed: int = 0
    audio_s: float = 0.0
    error: Mapping[str, JobError] | None = None
    save: bool = False
    subclass: tuple[tuple[str, int], ...] = ()
    lang: str = "en"
    subclass_columns: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


_COLUMNS = tuple(field.name for field in fields(Job))
_LISTS = ("subclass", "subclass_columns")
"""Those of them that are kept as JSON."""


class JobList:
    """The list of all jobs.

    Args:
        path: of the SQLite file; made when absent.

    Raises:
        JobsElsewhere: another server has it open.
        OutputError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._told():
            self._db = sqlite3.connect(path, timeout=0, check_same_thread=False)
            try:
                # In this order, no shared memory is used, which network file systems lack.
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.executescript(_TABLE)
                self._add_columns()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Lets another server open it."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.close()

    def add(self, job: Job) -> None:
        """Adds a job as the last of its owner."""
        values = {**vars(job), "error": None}
        for name in _LISTS:
            values[name] = json.dumps(values[name])
        with self._told(), self._db:
            marks = ", ".join(f":{name}" for name in _COLUMNS)
            self._db.execute(f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", values)

    def get(self, job_id: str) -> Job | None:
        """The job of this id, or None."""
        found = self._select("WHERE id = ?", (job_id,))
        return found[0] if found else None

    def find(self, statuses: Sequence[Status] = STATUSES, limit: int = -1) -> list[Job]:
        """Jobs in one of these states, the newest first; -1 for all of them."""
        marks = ", ".join("?" * len(statuses))
        return self._select(
            f"WHERE status IN ({marks}) ORDER BY created_ms DESC, rowid DESC LIMIT ?",
            (*statuses, limit),
        )

    def next(self) -> Job | None:
        """The job whose turn it is; None where there is nothing to do.

        One that was interrupted goes on first. Then comes the owner who had no turn for longest,
        with the oldest job that was not put off.
        """
        found = self._select(
            "WHERE status IN (?, ?) ORDER BY status = ? DESC, "
            "(SELECT max(other.tried_ms) FROM jobs AS other WHERE other.owner = jobs.owner), "
            "tried_ms, created_ms, rowid LIMIT 1",
            (QUEUED, IN_PROGRESS, IN_PROGRESS),
        )
        return found[0] if found else None

    def begin(self, job_id: str) -> None:
        """Notes that a job is being done."""
        now = now_ms()
        self._change(
            job_id, status=IN_PROGRESS, tried_ms=now, started_ms=("ifnull(started_ms, ?)", now)
        )

    def set_model(
        self, job_id: str, model: str, embedding_dim: int, subclass_columns: Sequence[str]
    ) -> None:
        """Notes which model answers, and what its table has.

        Args:
            job_id: of the job.
            model: id of the model.
            embedding_dim: numbers in each embedding, 0 for none.
            subclass_columns: columns of sub-classes.
        """
        self._change(
            job_id,
            model=model,
            embedding_dim=embedding_dim,
            subclass_columns=json.dumps(subclass_columns),
            error=None,
        )

    def set_counts(self, job_id: str, done: int, failed: int, audio_s: float) -> None:
        """Notes how many recordings have a row, how many of them with an error, and their s."""
        # Also of a job that was cancelled meanwhile.
        with self._told(), self._db:
            self._db.execute(
                "UPDATE jobs SET done = ?, failed = ?, audio_s = ? WHERE id = ?",
                (done, failed, audio_s, job_id),
            )

    def put_off(self, job_id: str, error: EmotionError) -> None:
        """Notes why a job waits; it will be tried again."""
        self._change(job_id, status=QUEUED, error=_error_json(error))

    def end(self, job_id: str, status: Status, error: EmotionError | None = None) -> None:
        """Notes how a job ended; one that has ended stays as it is."""
        told = None if error is None else _error_json(error)
        self._change(job_id, status=status, ended_ms=now_ms(), error=told)

    def remove(self, job_id: str) -> None:
        """Forgets a job."""
        with self._told(), self._db:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def _change(self, job_id: str, **values: Any) -> None:
        """Sets columns of a job that has not ended: to a value, or to (SQL, its value)."""
        terms = {
            name: value if isinstance(value, tuple) else ("?", value)
            for name, value in values.items()
        }
        changes = ", ".join(f"{name} = {sql}" for name, (sql, _) in terms.items())
        marks = ", ".join("?" * len(ENDED))
        with self._told(), self._db:
            self._db.execute(
                f"UPDATE jobs SET {changes} WHERE id = ? AND status NOT IN ({marks})",
                (*(value for _, value in terms.values()), job_id, *ENDED),
            )

    def _add_columns(self) -> None:
        there = {row[1] for row in self._db.execute("PRAGMA table_info(jobs)")}
        for name, kind in _LATER.items():
            if name not in there:
                self._db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")

    def _select(self, condition: str, values: Sequence[Any]) -> list[Job]:
        with self._told():
            rows = self._db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM jobs {condition}", values
            ).fetchall()
        return [_job(row) for row in rows]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """One thread at a time; SQLite's errors as ours."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                # SQLite's texts: its codes reach Python from 3.11 on only.
                text = str(error)
                if "locked" in text:
                    raise JobsElsewhere(retry_after_s=RETRY_AFTER_S) from error
                if "full" in text:
                    free_mb = shutil.disk_usage(self._path.parent).free / 1e6
                    raise DiskFull(free_mb=free_mb) from error
                raise OutputError(path=self._path, problem=text) from error


def now_ms() -> int:
    """The time, in ms since 1970."""
    return time.time_ns() // 1_000_000


def _error_json(error: EmotionError) -> str:
    told = {lang: error.to_dict(lang) for lang in texts.languages()}
    return json.dumps(told, ensure_ascii=False)


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    error = values["error"]
    if error is not None:
        values["error"] = {lang: JobError(**told) for lang, told in json.loads(error).items()}
    for name in ("embedding", "save"):
        values[name] = bool(values[name])
    values["subclass"] = tuple((name, version) for name, version in json.loads(values["subclass"]))
    values["subclass_columns"] = tuple(json.loads(values["subclass_columns"]))
    return Job(**values)
