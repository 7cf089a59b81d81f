"""Jobs: many recordings that were sent together, done one job after another beside live requests.

A job is what `batch` does with a folder: the same run, journal and rows. It goes on where it
stopped, also after the process was killed. One thread does the work, at bulk priority and with
decoders of its own: a live request waits for no file of a job, and for the model at most as long as
what it is computing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emotion2vec_ui.audio.decoding import Decoder
from emotion2vec_ui.batch.bulk import terms, wait_for_model
from emotion2vec_ui.batch.incoming import Bounds, Incoming
from emotion2vec_ui.batch.job_list import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    QUEUED,
    STATUSES,
    Job,
    Status,
    Wanted,
    now_ms,
)
from emotion2vec_ui.batch.job_store import JobStore
from emotion2vec_ui.batch.journal import Journal
from emotion2vec_ui.batch.manifest import Selection
from emotion2vec_ui.batch.results import Results
from emotion2vec_ui.batch.run import TASKS_PER_WORKER, Progress, Run, workers
from emotion2vec_ui.errors import (
    DiskFull,
    EmotionError,
    JobsElsewhere,
    JobStopped,
    OutputError,
    ResultNotFound,
    ResultsFileError,
    ShuttingDown,
    SubclassDamaged,
    SubclassNotFound,
    SubclassOfOtherModel,
    SubclassRefused,
    as_known,
)
from emotion2vec_ui.pipeline.recogniser import Cancelled, Observer, Recogniser
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.rows import subclass_columns
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

log = logging.getLogger(__name__)

MAX_FILES = 10_000
"""Of one job: a day of a call centre. Chosen."""

RETRY_S = 15.0
"""Until a job is tried again after the disk was full or no model answered."""

LEAVE_S = 10.0
"""How long deleting waits for the worker to let go of a job; it does within a second or two."""


@dataclass
class _Running:
    """The job that is being done.

    Attributes:
        id: of the job.
        cancel: set to have it end.
        ended: set when the worker has let go of it.
        progress: how far it is, once it is under way.
        failed_before: of the rows from earlier, those with an error.
        audio_before_s: and the length of the recordings, in s.
    """

    id: str
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

    Attributes:
        store: files and rows of jobs.
    """

    def __init__(
        self, settings: Settings, recogniser: Recogniser, observer: Observer | None = None
    ) -> None:
        self.store = JobStore(settings.outputs)
        self._settings = settings
        self._recogniser = recogniser
        self._observer = observer
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
        if not self._thread.is_alive():
            self.store.close()

    # --- what callers ask for ---

    def add(self, incoming: Incoming, wanted: Wanted, *, owner: str) -> Job:
        """Makes a job of files that came, and has it done: see `JobStore.add`."""
        job = self.store.add(incoming, wanted, owner=owner)
        self._wake.set()
        return job

    def find(self, statuses: Sequence[Status] = STATUSES, limit: int = -1) -> list[Standing]:
        """Jobs in one of these states, the newest first; -1 for all."""
        if not self.store.has_any:
            return []
        return [self._standing(job) for job in self.store.list().find(statuses, limit)]

    def get(self, job_id: str) -> Standing:
        """One job.

        Raises:
            ResultNotFound: there is none of this id.
        """
        return self._standing(self.store.get(job_id))

    def cancel(self, job_id: str) -> Standing:
        """Ends a job; its rows stay. One that has ended stays as it is.

        Raises:
            ResultNotFound: there is none of this id.
        """
        self.get(job_id)
        self.store.list().end(job_id, CANCELLED)
        self._leave(job_id)
        return self.get(job_id)

    def remove(self, job_id: str) -> None:
        """Ends a job and removes its files and rows for good.

        Raises:
            ResultNotFound: there is none of this id.
        """
        self.get(job_id)
        # In this order: a folder without an entry is removed at the next start.
        self.store.list().remove(job_id)
        self._leave(job_id)
        self.store.discard(job_id)

    def remove_old(self, keep_days: float) -> int:
        """Removes jobs that ended more than `keep_days` ago; returns how many."""
        limit_ms = now_ms() - keep_days * 86_400_000
        old = [one.job for one in self.find(ENDED) if (one.job.ended_ms or 0) < limit_ms]
        for job in old:
            with contextlib.suppress(ResultNotFound):  # removed by a caller meanwhile
                self.remove(job.id)
        return len(old)

    def _standing(self, job: Job) -> Standing:
        running = self._running
        if running is None or running.id != job.id or running.progress is None:
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
        if running is not None and running.id == job_id:
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
        job = self.store.list().next() if self.store.has_any else None
        if job is None:
            self._end_decoder()
            return None
        return 0.0 if self._do(job) else RETRY_S

    def _do(self, job: Job) -> bool:
        """Does a job; returns whether the next may follow at once."""
        jobs = self.store.list()
        running = _Running(job.id)
        status: Status | None = COMPLETED
        error: EmotionError | None = None
        self._running = running
        try:
            jobs.begin(job.id)
            # Cancelled or removed after it was chosen: from here on `_leave` sees it.
            now = jobs.get(job.id)
            if now is None or now.has_ended:
                return True
            with self.store.journal(job.id) as journal:
                try:
                    self._recognise(job, running, journal)
                finally:
                    jobs.set_counts(job.id, *journal.counts())
        except (Cancelled, ShuttingDown):
            status = CANCELLED if running.cancel.is_set() else None
        except ResultsFileError as raised:
            status, error = FAILED, JobStopped(problem=raised.facts["problem"])
        except SubclassNotFound as raised:
            problem = Phrase("job.problem.subclass", name=raised.facts["name"])
            status, error = FAILED, JobStopped(problem=problem)
        except (SubclassOfOtherModel, SubclassDamaged, SubclassRefused) as raised:
            status, error = FAILED, raised
        except DiskFull as raised:  # of rows or of results
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

    def _recognise(self, job: Job, running: _Running, journal: Journal) -> None:
        """Recognises what has no row yet.

        Raises:
            Cancelled: a caller or the end of the program said so.
            EmotionError: it cannot go on.
        """
        root = self.store.files(job.id)

        def cancelled() -> bool:
            return running.cancel.is_set() or self._stopping.is_set()

        loaded = wait_for_model(self._recogniser.holder, cancelled)
        outputs = self._recogniser.settings.outputs
        trained = [subclasses.load(outputs, name, version) for name, version in job.subclass]
        columns = subclass_columns(one.card for one in trained)
        agreed = terms(
            # Not the folder: it may be moved, and is nobody's business.
            job.id,
            loaded,
            granularity=job.granularity,
            embedding=job.embedding,
            trained=trained,
        )
        journal.agree(agreed)
        self.store.list().set_model(job.id, loaded.id, agreed.embedding, columns)
        everything, todo = journal.list_files(Selection(root, lambda _: _walk(root)).files(_raise))
        rows, failed, running.audio_before_s = journal.counts()
        # Rows that are to be made anew are errors, all of them.
        running.failed_before = failed - (rows - (everything.files - todo.files))
        results = None
        if job.save:
            begun_before = job.started_ms is not None
            results = Results(self._recogniser, job.id, job.lang, begun_before=begun_before)
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
            trained=trained, results=results, decode=self._decoder, observer=self._observer,
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
    raise OutputError(path="files", problem=error.strerror or "I/O error") from error
