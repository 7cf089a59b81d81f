"""The folders of jobs in `outputs/.jobs/`: recordings and a journal each, beside the list of all.

Nothing is made before the first job comes. A job's folder is filled under another name and renamed;
one without an entry in the list is what a killed server left, and is removed at the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from emotion2vec_ui.batch import table
from emotion2vec_ui.batch.incoming import Bounds, Incoming, writing
from emotion2vec_ui.batch.job_list import IN_PROGRESS, Job, JobList, Wanted, now_ms
from emotion2vec_ui.batch.journal import Journal
from emotion2vec_ui.errors import OutputError, ResultNotFound, ShuttingDown
from emotion2vec_ui.records import store
from emotion2vec_ui.records.rows import Row

JOBS_DIR = ".jobs"
LIST_NAME = "jobs.sqlite"
FILES_DIR = "files"
JOURNAL_NAME = "journal.sqlite"

RETRY_AFTER_S = 10
"""Of what a stopping server refuses: a restart takes about as long."""


class JobStore:
    """All jobs of one outputs folder, as files.

    Args:
        outputs: the folder of all results.
    """

    def __init__(self, outputs: Path) -> None:
        self._folder = outputs / JOBS_DIR
        self._lock = threading.RLock()
        self._list: JobList | None = None
        self._is_closed = False
        self._journals: dict[str, tuple[Journal, int]] = {}

    @property
    def has_any(self) -> bool:
        """Whether there ever was a job: a server without any leaves nothing behind."""
        return self._list is not None or (self._folder / LIST_NAME).exists()

    def list(self) -> JobList:
        """The list; opened, and made, when it is first needed.

        Raises:
            JobsElsewhere: another server has the jobs of this folder.
            OutputError: the folder cannot be written.
            ShuttingDown: the store was closed.
        """
        with self._lock:
            if self._is_closed:
                raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
            if self._list is None:
                with writing(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                self._list = JobList(self._folder / LIST_NAME)
                self._sweep(self._list)
            return self._list

    def get(self, job_id: str) -> Job:
        """One job as the list has it.

        Raises:
            ResultNotFound: there is none of this id.
        """
        job = self.list().get(job_id) if self.has_any else None
        if job is None:
            raise ResultNotFound(name=job_id[:200])
        return job

    def close(self) -> None:
        """Lets another server open the list."""
        with self._lock:
            self._is_closed = True
            if self._list is not None:
                self._list.close()
                self._list = None

    # --- a new job ---

    def begin(self, bounds: Bounds) -> Incoming:
        """Where to put the files of a new job; `drop` must follow, whatever happens.

        Args:
            bounds: of what it may hold.

        Raises:
            DiskFull, OutputError: the folder cannot be made.
        """
        self.list()
        folder = self._folder / store.WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
        return Incoming(folder / FILES_DIR, bounds)

    def drop(self, incoming: Incoming) -> None:
        """Removes what came and was not made a job by `add`."""
        with contextlib.suppress(OutputError):
            incoming.end()
        shutil.rmtree(incoming.folder.parent, ignore_errors=True)

    def add(self, incoming: Incoming, wanted: Wanted, *, owner: str) -> Job:
        """Makes a job of the files that came.

        Args:
            incoming: with its files, finished.
            wanted: what is asked of it.
            owner: whatever tells one caller from another; only a hash of it is kept.
        """
        job = Job(
            id=str(uuid.uuid4()),
            owner=hashlib.sha256(owner.encode()).hexdigest()[:16],
            name=incoming.name,
            files=incoming.files,
            bytes=incoming.bytes,
            created_ms=now_ms(),
            **vars(wanted),
        )
        jobs = self.list()
        folder = self._folder / job.id
        with writing(folder):
            incoming.folder.parent.rename(folder)
        try:
            jobs.add(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    # --- what a job has ---

    def files(self, job_id: str) -> Path:
        """The folder of a job's recordings."""
        return self._folder / job_id / FILES_DIR

    def file(self, job_id: str, name: str) -> Path:
        """A recording of a job.

        Raises:
            ResultNotFound: there is no such job or recording.
        """
        self.get(job_id)
        root = self.files(job_id)
        path = root / name
        # No link is ever unpacked, so that a path below the folder is in it.
        leads_out = ".." in path.parts or "\0" in name or not path.is_relative_to(root)
        if leads_out or not path.is_file():
            raise ResultNotFound(name=f"{job_id}/{name}"[:200])
        return path

    def rows(self, job_id: str) -> Iterator[Row]:
        """The rows there are, by path; those of a job under way, too.

        Raises:
            ResultNotFound: there is no job of this id.
        """
        self.get(job_id)
        with self.journal(job_id) as journal:
            for row, _ in journal.rows():
                yield row

    def write_table(self, job_id: str, path: Path, lang: str, root_path: str = "") -> None:
        """Writes the rows there are as a table.

        Args:
            job_id: of the job.
            path: of the table; its ending says the format. A CSV has no embeddings.
            lang: of the errors' sentences.
            root_path: before the addresses of results.

        Raises:
            ResultNotFound: there is no job of this id.
            PackageMissing, OutputError: the table cannot be written.
        """
        table.check_available(path)
        job = self.get(job_id)
        has_embeddings = path.suffix != ".csv"
        rows = self.rows(job_id)
        table.write(
            path,
            rows if has_embeddings else (replace(row, embedding=None) for row in rows),
            facts={"job": job.id, "model": job.model or "", "granularity": job.granularity},
            results=job.save,
            subclasses=job.subclass_columns,
            segments=job.granularity == "frame",
            embedding=job.embedding_dim if has_embeddings else 0,
            lang=lang,
            journal=Path(JOURNAL_NAME),
            root_path=root_path,
        )

    @contextlib.contextmanager
    def journal(self, job_id: str) -> Iterator[Journal]:
        """The journal of a job, one for all threads: only one can have the file open.

        Raises:
            OutputError: it cannot be used.
        """
        with self._lock:
            journal, users = self._journals.get(job_id, (None, 0))
            if journal is None:
                journal = Journal(self._folder / job_id / JOURNAL_NAME)
            self._journals[job_id] = journal, users + 1
        try:
            yield journal
        finally:
            with self._lock:
                journal, users = self._journals[job_id]
                if users > 1:
                    self._journals[job_id] = journal, users - 1
                else:
                    del self._journals[job_id]
                    journal.close()

    def discard(self, job_id: str) -> None:
        """Removes the folder of a job that the list no longer has."""
        with contextlib.suppress(OSError):
            store.discard(self._folder / job_id)

    def _sweep(self, jobs: JobList) -> None:
        """Removes what a killed server left: the list is ours alone, so nobody is writing."""
        known = {job.id for job in jobs.find()}
        for entry in os.scandir(self._folder):
            if entry.is_dir(follow_symlinks=False) and entry.name not in known:
                shutil.rmtree(entry.path, ignore_errors=True)
        for job in jobs.find((IN_PROGRESS,)):
            with contextlib.suppress(OutputError), self.journal(job.id) as journal:
                jobs.set_counts(job.id, *journal.counts())
