"""Jobs: many recordings that were sent together, done one job after another beside live requests.

A job is a folder in `outputs/.jobs/` with its recordings and the journal of a `batch` run, and an
entry in the list of all jobs. It goes on where it stopped, also after the process was killed. One
thread does the work, at bulk priority and with decoders of its own: a live request waits for no
file of a job, and for the model at most as long as what it is computing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emotion2vec_ui.audio.decoding import Decoder
from emotion2vec_ui.batch import table
from emotion2vec_ui.batch.incoming import Bounds, Incoming
from emotion2vec_ui.batch.job_list import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    IN_PROGRESS,
    QUEUED,
    STATUSES,
    Job,
    JobList,
    now_ms,
)
from emotion2vec_ui.batch.journal import Journal
from emotion2vec_ui.batch.manifest import Selection
from emotion2vec_ui.batch.run import (
    TASKS_PER_WORKER,
    Progress,
    Run,
    terms,
    wait_for_model,
    workers,
)
from emotion2vec_ui.errors import (
    BatchDiskFull,
    EmotionError,
    JobsElsewhere,
    JobStopped,
    OutputError,
    ResultNotFound,
    ResultsFileError,
    ShuttingDown,
    as_known,
)
from emotion2vec_ui.pipeline.recogniser import Cancelled, Observer, Recogniser
from emotion2vec_ui.records import store
from emotion2vec_ui.records.rows import Row
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

log = logging.getLogger(__name__)

JOBS_DIR = ".jobs"
LIST_NAME = "jobs.sqlite"
FILES_DIR = "files"
JOURNAL_NAME = "journal.sqlite"

MAX_FILES = 10_000
"""Of one job: a day of a call centre. Chosen."""

RETRY_S = 15.0
"""Until a job is tried again after the disk was full or no model answered."""

LEAVE_S = 10.0
"""How long deleting waits for the worker to let go of a job; it does within a second or two."""

RETRY_AFTER_S = 10
"""Of what a stopping server refuses: a restart takes about as long."""


@dataclass
class _Running:
    """The job that is being done.

    Attributes:
        job: as it stood when it was begun.
        cancel: set to have it end.
        ended: set when the worker has let go of it.
        progress: how far it is, once it is under way.
        failed_before: of the rows from earlier, those with an error.
        audio_before_s: and the length of the others, in s.
    """

    job: Job
    cancel: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None
    failed_before: int = 0
    audio_before_s: float = 0.0


@dataclass(frozen=True)
class Standing:
    """A job and how fast it goes.

    Attributes:
        job: with the counts of this moment.
        eta_s: seconds until its end, or None where that cannot be told.
        speed: seconds of audio per second, 0 where it is not being done.
    """

    job: Job
    eta_s: float | None = None
    speed: float = 0.0


class Jobs:
    """All jobs of one outputs folder, and the thread that does them.

    Args:
        settings: of the program.
        recogniser: whose model and steps are used.
        observer: told of every recording.
    """

    def __init__(
        self, settings: Settings, recogniser: Recogniser, observer: Observer | None = None
    ) -> None:
        self._settings = settings
        self._recogniser = recogniser
        self._observer = observer
        self._folder = settings.outputs / JOBS_DIR
        self._lock = threading.RLock()
        self._list: JobList | None = None
        self._journals: dict[str, tuple[Journal, int]] = {}
        self._running: _Running | None = None
        # Of jobs only: live requests do not wait behind their files.
        self._decoder: Decoder | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    @property
    def bounds(self) -> Bounds:
        """Of what one job may hold."""
        settings = self._settings
        return Bounds(MAX_FILES, settings.max_job_bytes, settings.max_upload_bytes)

    def start(self) -> None:
        """Starts the thread; what was interrupted goes on."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Leaves the running job where it is; it goes on after the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._lock:
            if self._list is not None and not self._thread.is_alive():
                self._list.close()
                self._list = None

    # --- what callers ask for ---

    @contextlib.contextmanager
    def receiving(self) -> Iterator[Incoming]:
        """Where to put the files of a new job; without `add` nothing of them stays.

        Raises:
            ShuttingDown: the program is stopping.
            JobsElsewhere: another server has the jobs of this folder.
            OutputError: the folder cannot be written.
        """
        self._opened()
        folder = self._folder / store.WRITING_DIR / f"{os.getpid()}-{uuid.uuid4().hex}"
        incoming = Incoming(folder / FILES_DIR, self.bounds)
        try:
            yield incoming
        finally:
            incoming.end()
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, incoming: Incoming, *, granularity: str, embedding: bool, owner: str) -> Job:
        """Makes a job of the files that came.

        Args:
            incoming: with its files, finished.
            granularity: "utterance" or "frame".
            embedding: whether embeddings are wanted.
            owner: whatever tells one caller from another; only a hash of it is kept.
        """
        job = Job(
            id=str(uuid.uuid4()),
            owner=hashlib.sha256(owner.encode()).hexdigest()[:16],
            name=incoming.name,
            granularity=granularity,
            embedding=embedding,
            files=incoming.files,
            bytes=incoming.bytes,
            created_ms=now_ms(),
        )
        jobs = self._opened()
        # First the folder: one without an entry is removed at the next start.
        incoming.folder.parent.rename(self._folder / job.id)
        try:
            jobs.add(job)
        except BaseException:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)
            raise
        self._wake.set()
        return job

    def find(self, statuses: Sequence[str] = STATUSES, limit: int = -1) -> list[Standing]:
        """Jobs in one of these states, the newest first; -1 for all."""
        if not self._has_any():
            return []
        return [self._standing(job) for job in self._opened().find(statuses, limit)]

    def get(self, job_id: str) -> Standing:
        """One job.

        Raises:
            ResultNotFound: there is none of this id.
        """
        job = self._opened().get(job_id) if self._has_any() else None
        if job is None:
            raise ResultNotFound(name=job_id[:200])
        return self._standing(job)

    def cancel(self, job_id: str) -> Standing:
        """Ends a job; its rows stay. One that has ended stays as it is.

        Raises:
            ResultNotFound: there is none of this id.
        """
        self.get(job_id)
        self._opened().end(job_id, CANCELLED)
        self._leave(job_id)
        return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Ends a job and removes its files and rows for good.

        Raises:
            ResultNotFound: there is none of this id.
        """
        self.get(job_id)
        # In this order: a folder without an entry is removed at the next start.
        self._opened().remove(job_id)
        self._leave(job_id)
        with contextlib.suppress(OSError):
            store.discard(self._folder / job_id)

    def remove_old(self, keep_days: float) -> int:
        """Removes jobs that ended more than `keep_days` ago; returns how many."""
        limit_ms = now_ms() - keep_days * 86_400_000
        old = [one.job for one in self.find(ENDED) if (one.job.ended_ms or 0) < limit_ms]
        for job in old:
            with contextlib.suppress(ResultNotFound):  # removed by a caller meanwhile
                self.remove(job.id)
        return len(old)

    def rows(self, job_id: str) -> Iterator[Row]:
        """The rows there are, by path; those of a job under way, too.

        Raises:
            ResultNotFound: there is no job of this id.
        """
        self.get(job_id)
        with self._journal(job_id) as journal:
            for row, _ in journal.rows():
                yield row

    def write_table(self, job_id: str, path: Path, lang: str) -> None:
        """Writes the rows there are as a table.

        Args:
            job_id: of the job.
            path: of the table; its ending says the format. A CSV has no embeddings.
            lang: of the errors' sentences.

        Raises:
            ResultNotFound: there is no job of this id.
            PackageMissing, OutputError: the table cannot be written.
        """
        table.check_available(path)
        job = self.get(job_id).job
        rows = self.rows(job_id)
        if path.suffix == ".csv":
            rows = (replace(row, embedding=None) for row in rows)
        table.write(
            path,
            rows,
            facts={"job": job.id, "model": job.model or "", "granularity": job.granularity},
            segments=job.granularity == "frame",
            embedding=0 if path.suffix == ".csv" else job.embedding_dim,
            lang=lang,
            journal=Path(JOURNAL_NAME),
        )

    def file(self, job_id: str, name: str) -> Path:
        """A recording of a job.

        Raises:
            ResultNotFound: there is no such job or recording.
        """
        self.get(job_id)
        root = self._folder / job_id / FILES_DIR
        path = root / name
        # No link is ever unpacked, so a path without ".." cannot leave the folder.
        inside = not path.is_absolute() or path.is_relative_to(root)
        if ".." in path.parts or "\0" in name or not inside or not path.is_file():
            raise ResultNotFound(name=f"{job_id}/{name}"[:200])
        return path

    # --- the list and the journals ---

    def _has_any(self) -> bool:
        """Whether there was ever a job: a server without any leaves nothing behind."""
        return self._list is not None or (self._folder / LIST_NAME).exists()

    def _opened(self) -> JobList:
        """The list; opened when it is first needed."""
        with self._lock:
            if self._list is None:
                if self._stopping.is_set():
                    raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
                try:
                    self._folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    problem = error.strerror or "I/O error"
                    raise OutputError(path=self._folder, problem=problem) from error
                self._list = JobList(self._folder / LIST_NAME)
                self._sweep(self._list)
            return self._list

    def _sweep(self, jobs: JobList) -> None:
        """Removes what a killed server left: the list is ours alone, so nobody is writing."""
        known = {job.id for job in jobs.find()}
        for entry in os.scandir(self._folder):
            if entry.is_dir(follow_symlinks=False) and entry.name not in known:
                shutil.rmtree(entry.path, ignore_errors=True)
        for job in jobs.find((IN_PROGRESS,)):
            with contextlib.suppress(OutputError), self._journal(job.id) as journal:
                jobs.set_counts(job.id, *journal.counts())

    @contextlib.contextmanager
    def _journal(self, job_id: str) -> Iterator[Journal]:
        """The journal of a job, one for all threads: only one can have the file open."""
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

    def _standing(self, job: Job) -> Standing:
        running = self._running
        if running is None or running.job.id != job.id or running.progress is None:
            return Standing(job)
        progress = running.progress
        counted = replace(
            job,
            done=progress.skipped + progress.done,
            failed=running.failed_before + progress.failed,
            audio_s=running.audio_before_s + progress.audio_s,
        )
        return Standing(counted, progress.eta_s, progress.speed)

    def _leave(self, job_id: str) -> None:
        """Has the worker let go of a job."""
        running = self._running
        if running is not None and running.job.id == job_id:
            running.cancel.set()
            running.ended.wait(LEAVE_S)

    # --- the thread ---

    def _work(self) -> None:
        elsewhere = False
        try:
            while not self._stopping.is_set():
                try:
                    wait_s = self._work_once()
                    elsewhere = False
                except JobsElsewhere as error:
                    if not elsewhere:
                        log.warning("%s", error)
                    elsewhere, wait_s = True, RETRY_S
                except Exception:  # the list cannot be written: nothing may end the thread
                    log.exception("jobs cannot go on; they are tried again in %.0f s", RETRY_S)
                    wait_s = RETRY_S
                if wait_s is None or wait_s > 0:
                    self._wake.wait(wait_s)
                    self._wake.clear()
        finally:
            self._end_decoder()

    def _work_once(self) -> float | None:
        """Does one job; returns the s to wait before the next, None for until one comes."""
        job = self._opened().next() if self._has_any() else None
        if job is None:
            self._end_decoder()
            return None
        return 0.0 if self._do(job) else RETRY_S

    def _do(self, job: Job) -> bool:
        """Does a job; returns whether the next may follow at once."""
        jobs = self._opened()
        running = _Running(job)
        status: str | None = COMPLETED
        error: EmotionError | None = None
        self._running = running
        try:
            jobs.begin(job.id)
            # Cancelled or removed after it was chosen: from here on `_leave` sees it.
            now = jobs.get(job.id)
            if now is None or now.has_ended:
                return True
            with self._journal(job.id) as journal:
                try:
                    self._recognise(running, journal)
                finally:
                    jobs.set_counts(job.id, *journal.counts())
        except (Cancelled, ShuttingDown):
            status = CANCELLED if running.cancel.is_set() else None
        except ResultsFileError as raised:
            status, error = FAILED, JobStopped(problem=raised.facts["problem"])
        except BatchDiskFull as raised:
            problem = Phrase("job.problem.disk_full", free_mb=raised.facts["free_mb"])
            status, error = QUEUED, JobStopped(problem=problem)
        except EmotionError as raised:
            status, error = QUEUED, raised
        except Exception as raised:  # a bug: the other jobs go on
            status, error = FAILED, as_known(raised, "a job")
        finally:
            self._running = None
            running.ended.set()
        log.info("job %s: %s%s", job.id, status or "interrupted", f": {error}" if error else "")
        if status is None:
            return True  # it stays in progress, and goes on after the next start
        if status == QUEUED:
            assert error is not None
            jobs.put_off(job.id, error)
            return False
        jobs.end(job.id, status, error)
        return True

    def _recognise(self, running: _Running, journal: Journal) -> None:
        """Recognises what has no row yet.

        Raises:
            Cancelled: a caller or the end of the program said so.
            EmotionError: it cannot go on.
        """
        job = running.job
        root = self._folder / job.id / FILES_DIR

        def cancelled() -> bool:
            return running.cancel.is_set() or self._stopping.is_set()

        loaded = wait_for_model(self._recogniser.holder, cancelled)
        agreed = terms(root, loaded, granularity=job.granularity, embedding=job.embedding)
        # The folder may be moved, and is nobody's business.
        agreed = replace(agreed, root=job.id)
        journal.agree(agreed)
        self._opened().set_model(job.id, loaded.id, agreed.embedding)
        everything, todo = journal.list_files(Selection(root, lambda _: _walk(root)).files(_raise))
        rows, failed, running.audio_before_s = journal.counts()
        # Rows that are to be made anew are errors, all of them.
        running.failed_before = failed - (rows - (everything.files - todo.files))
        if self._decoder is None:
            self._decoder = Decoder(
                self._settings.max_duration_s,
                workers=workers(),
                tasks_per_worker=TASKS_PER_WORKER,
            )

        def on_progress(progress: Progress) -> None:
            running.progress = progress

        Run(
            root, journal, everything, todo, self._recogniser, loaded, agreed,
            decode=self._decoder, observer=self._observer,
            on_progress=on_progress, cancelled=cancelled,
        )()  # fmt: skip

    def _end_decoder(self) -> None:
        """Ends the processes that decode; the next job starts others."""
        if self._decoder is not None:
            self._decoder.stop()
            self._decoder = None


def _walk(root: Path) -> Iterator[str]:
    """Every file below a job's folder, in order."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name).relative_to(root).as_posix()


def _raise(error: OSError) -> None:
    raise OutputError(path=FILES_DIR, problem=error.strerror or "I/O error") from error
