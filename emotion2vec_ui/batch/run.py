"""Recognises many files: decoded ahead, by length; each row is kept as soon as it is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.batch.ahead import Ahead
from emotion2vec_ui.batch.bulk import Answered, Bulk
from emotion2vec_ui.batch.journal import Amount, Journal, Terms
from emotion2vec_ui.batch.results import Results
from emotion2vec_ui.models import engine
from emotion2vec_ui.pipeline.recogniser import Cancelled, Ended, Observer, Recogniser
from emotion2vec_ui.records import rows
from emotion2vec_ui.records.subclasses import Trained

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded

CHUNK_S = 60.0
"""Audio that is sorted by length and submitted at once. Two chunks are on their way: while the
model works on one the next waits, so that it is never idle."""

BATCHES_PER_CHUNK = 4
"""At least, on a GPU: neighbours in length then fill a batch with little padding."""

MAX_WORKERS = 16
"""Processes that decode; each takes about 150 MB."""

TASKS_PER_WORKER = 5_000
"""Files after which a process is replaced; a new one costs about two seconds of a core."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        files: all of them.
        skipped: those whose row is from an earlier run.
        done: those of this run that are done.
        failed: those of `done` with an error.
        audio_s: recognised in this run.
        elapsed_s: since it began to read files.
        bytes_left: of the files that are not done.
        bytes_done: of those that are, in this run.
    """

    files: int
    skipped: int
    done: int
    failed: int
    audio_s: float
    elapsed_s: float
    bytes_left: int
    bytes_done: int

    @property
    def speed(self) -> float:
        """Seconds of audio per second."""
        return self.audio_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def eta_s(self) -> float | None:
        """Until the end, by the bytes of the files; None before one is recognised."""
        if not self.audio_s or not self.bytes_done:
            return None
        return self.elapsed_s * self.bytes_left / self.bytes_done


def workers() -> int:
    """Processes that decode: a model on the CPU leaves them what it does not need."""
    return max(2, min(os.cpu_count() or 2, MAX_WORKERS))


class Keeping:
    """Keeps rows as they come, and counts.

    Args:
        journal: with the files listed and the terms agreed.
        everything: of the files.
        todo: of them without a row.
        observer: told of every recording, as of the front end "job".
        on_progress: called after every file.
    """

    def __init__(
        self,
        journal: Journal,
        everything: Amount,
        todo: Amount,
        *,
        observer: Observer | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._journal = journal
        self._everything = everything
        self._todo = todo
        self._observer = observer
        self._on_progress = on_progress
        self._done = self._failed = self._bytes_done = 0
        self._audio_s = 0.0
        self._began = time.monotonic()

    def keep(self, answered: Iterable[Answered]) -> None:
        """Keeps the row of each file, or notes that the one it has still holds good.

        Raises:
            OutputError: a row cannot be kept; those before it are.
        """
        for one in answered:
            if one.row is None:
                self._journal.touch(one.file)
            else:
                self._journal.add(one.file, one.row)
                audio_s = one.row.duration_s or 0.0
                if self._observer is not None:
                    # No time in a queue: how long others' work came first says nothing of this.
                    ended = Ended("job", "predict", one.error, one.taken_s, audio_s)
                    self._observer.request_ended(ended)
                self._failed += one.row.status != rows.OK
                self._audio_s += audio_s
            self._done += 1
            self._bytes_done += max(0, one.file.bytes)
            self._on_progress(self.progress())

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            files=self._everything.files,
            skipped=self._everything.files - self._todo.files,
            done=self._done,
            failed=self._failed,
            audio_s=self._audio_s,
            elapsed_s=time.monotonic() - self._began,
            bytes_left=max(0, self._todo.bytes - self._bytes_done),
            bytes_done=self._bytes_done,
        )


class Run:
    """One run over the listed files of a journal.

    Args:
        root: the folder that names are relative to.
        journal: with the files listed and the terms agreed.
        everything: of the files.
        todo: of them without a row.
        recogniser: whose steps are used.
        loaded: the model; the same for every row.
        terms: that the journal agreed to.
        trained: sets of sub-classes that rows have.
        results: keeps recordings as results of their own, or None.
        decode: path and name in, Clip out; the recogniser's own where it is None.
        observer: told of every recording, as of the front end "job".
        on_progress: called after every file.
        cancelled: asked now and then whether to stop.
    """

    def __init__(
        self,
        root: Path,
        journal: Journal,
        everything: Amount,
        todo: Amount,
        recogniser: Recogniser,
        loaded: Loaded,
        terms: Terms,
        *,
        trained: Sequence[Trained] = (),
        results: Results | None = None,
        decode: Callable[[Path, str], Clip] | None = None,
        observer: Observer | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = root
        self._journal = journal
        self._decode = decode or recogniser.decode
        self._device = loaded.network.device
        self._cancelled = cancelled
        self._bulk = Bulk(
            recogniser, loaded, terms,
            agree=journal.agree, trained=trained, results=results, cancelled=cancelled,
        )  # fmt: skip
        self._keeping = Keeping(
            journal, everything, todo, observer=observer, on_progress=on_progress
        )

    def __call__(self) -> Progress:
        """Recognises every file that has no row.

        Raises:
            Cancelled: `cancelled` said so; the rows that are done are kept.
            OutputError: a row or a result cannot be kept; those before it are.
            ModelError: the model cannot go on.
        """
        chunk_s = max(CHUNK_S, BATCHES_PER_CHUNK * engine.default_batch_s(self._device))
        bulk, keep = self._bulk, self._keeping.keep
        ahead = Ahead(
            self._root,
            self._journal.todo(),
            self._decode,
            # One more than there are processes: none waits for a thread.
            readers=workers() + 1,
            limit_s=chunk_s,
        )
        try:
            with ahead:
                while reads := ahead.take(chunk_s, busy=bulk.busy, cancelled=self._cancelled):
                    keep(bulk.submit(reads))
                    if bulk.chunks > 1:
                        keep(bulk.answers())
                while bulk.chunks:
                    keep(bulk.answers())
        finally:
            bulk.cancel()
        if self._cancelled():
            raise Cancelled
        return self._keeping.progress()
