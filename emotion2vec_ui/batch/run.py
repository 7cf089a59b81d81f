"""Recognises many files: decoded ahead, in batches by length, each row kept as soon as it is there.

The steps are those of one recognition (`pipeline.recogniser`): decode, submit, answer, describe.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.batch.ahead import Ahead, Read
from emotion2vec_ui.batch.journal import SCHEMA, Amount, Journal, Terms
from emotion2vec_ui.batch.results import Results
from emotion2vec_ui.errors import (
    DeviceLost,
    EmotionError,
    ModelNotReady,
    OutputError,
    as_known,
)
from emotion2vec_ui.models import engine
from emotion2vec_ui.models.batching import Priority
from emotion2vec_ui.pipeline.describe import describe
from emotion2vec_ui.pipeline.recogniser import (
    Cancelled,
    Ended,
    Observer,
    Recogniser,
    Submitted,
)
from emotion2vec_ui.records import rows
from emotion2vec_ui.records.report import Timing, Utterance
from emotion2vec_ui.records.rows import Row
from emotion2vec_ui.records.subclasses import Card, Trained

if TYPE_CHECKING:
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.models.loader import Loaded

log = logging.getLogger(__name__)

CHUNK_S = 60.0
"""Audio that is sorted by length and submitted at once. Two chunks are on their way: while the
model works on one the next waits, so that it is never idle."""

BATCHES_PER_CHUNK = 4
"""At least, on a GPU: neighbours in length then fill a batch with little padding."""

MAX_WORKERS = 16
"""Processes that decode; each takes about 150 MB."""

TASKS_PER_WORKER = 5_000
"""Files after which a process is replaced; a new one costs about two seconds of a core."""

DEVICE_LOSSES = 3
"""How often in a row the GPU may fail before the run ends."""

MODEL_POLL_S = 0.5
MODEL_TOLD_EVERY_S = 10.0


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


def wait_for_model(
    holder: ModelHolder,
    cancelled: Callable[[], bool],
    on_wait: Callable[[str, float | None], None] = lambda state, share: None,
) -> Loaded:
    """The model, however long its download takes.

    Args:
        holder: that finds and loads it.
        cancelled: ends the wait.
        on_wait: called every few seconds with the holder's state and the share downloaded.

    Raises:
        Cancelled: `cancelled` said so.
        ModelError: there is none to be had.
    """
    told_s = time.monotonic()
    while not cancelled():
        try:
            return holder.get(MODEL_POLL_S)
        except ModelNotReady:
            if time.monotonic() - told_s >= MODEL_TOLD_EVERY_S:
                told_s = time.monotonic()
                status = holder.status()
                on_wait(status.state, status.progress)
    raise Cancelled


def terms(
    root: Path,
    loaded: Loaded,
    *,
    granularity: str,
    embedding: bool,
    trained: Sequence[Trained] = (),
) -> Terms:
    """What every row of this run has in common.

    Raises:
        SubclassOfOtherModel: a set of sub-classes was trained on another model's embeddings.
    """
    for one in trained:
        one.require(loaded.weights_sha256, loaded.id)
    return Terms(
        schema=SCHEMA,
        root=shown_path(str(root)),
        model=loaded.id,
        weights_sha256=loaded.weights_sha256,
        precision=loaded.network.precision,
        reference_sha256=_reference_sha256(loaded),
        granularity=granularity,
        embedding=loaded.dim if embedding else 0,
        subclass=", ".join(_version_of(one.card) for one in trained) or "-",
    )


def _version_of(card: Card) -> str:
    # With its time: a version that was removed and trained again has the same number.
    return f"{card.name} {card.version} ({card.created})"


def shown_path(path: str) -> str:
    """A path as text: bytes that are none are written as a backslash, x and two digits."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
        self._everything = everything
        self._todo = todo
        self._recogniser = recogniser
        self._loaded = loaded
        self._terms = terms
        self._trained = trained
        self._results = results
        self._decode = decode or recogniser.decode
        self._observer = observer
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._frames = terms.granularity == "frame"
        self._group = object()
        self._flying: deque[deque[tuple[Read, Submitted]]] = deque()
        self._losses = 0
        self._done = self._failed = self._bytes_done = 0
        self._audio_s = 0.0
        self._began = time.monotonic()

    def __call__(self) -> Progress:
        """Recognises every file that has no row.

        Raises:
            Cancelled: `cancelled` said so; the rows that are done are kept.
            OutputError: a row cannot be kept; those before it are.
            ModelError: the model cannot go on.
        """
        batch_s = engine.default_batch_s(self._loaded.network.device)
        chunk_s = max(CHUNK_S, BATCHES_PER_CHUNK * batch_s)
        self._began = time.monotonic()
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
                while reads := ahead.take(chunk_s, busy=self._busy, cancelled=self._cancelled):
                    self._submit(reads)
                    if len(self._flying) > 1:
                        self._finish(self._flying[0])
                while self._flying:
                    self._finish(self._flying[0])
        finally:
            for chunk in self._flying:
                for _, submitted in chunk:
                    submitted.job.cancel()
        if self._cancelled():
            raise Cancelled
        return self._progress()

    def _busy(self) -> bool:
        """Whether the model has work: a chunk's recordings are answered in order."""
        return bool(self._flying) and not self._flying[-1][-1][1].job.future.done()

    def _submit(self, reads: list[Read]) -> None:
        """Sends what was decoded to the model, by length; keeps the rows of what was not."""
        heard = []
        for read in reads:
            if read.clip is not None:
                heard.append(read)
            elif read.error is not None:
                self._keep(read, self._error_row(read, read.error), read.error)
            else:
                self._journal.touch(read.file)
                self._count(read)
        heard.sort(key=lambda read: -read.duration_s)
        if heard:
            self._flying.append(deque((read, self._submitted(read)) for read in heard))

    def _submitted(self, read: Read) -> Submitted:
        assert read.clip is not None
        return self._recogniser.submit(
            self._loaded,
            read.clip,
            frames=self._frames,
            # Rows have no room for those of every frame; results do.
            features=self._results is not None and self._frames and bool(self._terms.embedding),
            priority=Priority.BULK,
            group=self._group,
        )

    def _finish(self, chunk: deque[tuple[Read, Submitted]]) -> None:
        """Waits for a chunk's answers and keeps each."""
        while chunk:
            read, submitted = chunk[0]
            error: EmotionError | None = None
            try:
                row = self._row(read, submitted)
            except (Cancelled, OutputError):
                raise
            except DeviceLost as lost:
                self._start_again(lost)
                continue
            except Exception as raised:  # any: it is this recording's, and the others go on
                error = as_known(raised, "batch")
                row = self._error_row(read, error)
            self._losses = 0
            chunk.popleft()
            self._keep(read, row, error, submitted.job.inference_s)
        self._flying.popleft()

    def _row(self, read: Read, submitted: Submitted) -> Row:
        prediction = self._recogniser.answer(submitted, self._cancelled)
        clip, inference_s = submitted.clip, submitted.job.inference_s
        timing = Timing(
            decode_s=clip.decode_s,
            model_load_s=0.0,
            inference_s=inference_s,
            total_s=clip.decode_s + inference_s,
        )
        saving = self._results is not None
        utterances: tuple[Utterance, ...] = ()
        if saving and self._frames:
            utterances = self._recogniser.utterances(
                submitted.loaded, clip, self._cancelled, priority=Priority.BULK
            )
        report = describe(
            clip,
            submitted.loaded,
            prediction,
            timing,
            with_embedding=saving and bool(self._terms.embedding),
            utterances=utterances,
            trained=self._trained,
        )
        row = rows.of_report(
            shown_path(read.file.name),
            report,
            segments=self._frames,
            embedding=prediction.embedding if self._terms.embedding else None,
        )
        if self._results is None:
            return row
        # Before its row, which then says where: a result without a row is found again.
        return replace(row, folder=self._results.save(read.file.name, report, clip, prediction))

    def _error_row(self, read: Read, error: EmotionError) -> Row:
        sha256 = read.clip.source.sha256 if read.clip else read.sha256
        return rows.of_error(shown_path(read.file.name), sha256, self._terms.model, error)

    def _start_again(self, error: DeviceLost) -> None:
        """Submits what was not answered to the model once it is loaded again."""
        self._losses += 1
        if self._losses > DEVICE_LOSSES:
            raise error
        log.warning("%s Unanswered recordings are submitted again.", error)
        self._loaded = wait_for_model(self._recogniser.holder, self._cancelled)
        granularity, embedding = self._terms.granularity, bool(self._terms.embedding)
        # Another model may have been downloaded meanwhile; one table has one.
        found = terms(
            self._root,
            self._loaded,
            granularity=granularity,
            embedding=embedding,
            trained=self._trained,
        )
        self._journal.agree(replace(found, root=self._terms.root))
        for chunk in self._flying:
            for place, (read, _) in enumerate(list(chunk)):
                chunk[place] = (read, self._submitted(read))

    def _keep(
        self, read: Read, row: Row, error: EmotionError | None, inference_s: float = 0.0
    ) -> None:
        self._journal.add(read.file, row)
        if self._observer is not None:
            # No time in a queue: how long others' work came first says nothing of this one.
            taken_s = inference_s + (read.clip.decode_s if read.clip else 0.0)
            audio_s = row.duration_s or 0.0
            self._observer.request_ended(Ended("job", "predict", error, taken_s, audio_s))
        self._failed += row.status != rows.OK
        self._audio_s += row.duration_s or 0.0
        self._count(read)

    def _count(self, read: Read) -> None:
        self._done += 1
        self._bytes_done += max(0, read.file.bytes)
        self._on_progress(self._progress())

    def _progress(self) -> Progress:
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


def _reference_sha256(loaded: Loaded) -> str:
    """Of what tells familiarity and calibrated confidence: `calibrate` changes it."""
    if loaded.reference is None:
        return "-"
    digest = hashlib.sha256()
    for value in astuple(loaded.reference):
        digest.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
    return digest.hexdigest()
