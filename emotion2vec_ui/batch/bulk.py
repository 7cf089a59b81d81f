"""Decoded recordings to rows: what one machine and every machine of a cluster do alike.

The steps are those of one recognition (`pipeline.recogniser`): submit, answer, describe.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

from emotion2vec_ui.batch.ahead import Read
from emotion2vec_ui.batch.journal import SCHEMA, Terms
from emotion2vec_ui.batch.manifest import Found
from emotion2vec_ui.batch.results import Results
from emotion2vec_ui.errors import (
    DeviceLost,
    EmotionError,
    ModelNotReady,
    OutputError,
    as_known,
)
from emotion2vec_ui.models.batching import Priority
from emotion2vec_ui.pipeline.describe import describe
from emotion2vec_ui.pipeline.recogniser import Cancelled, Recogniser, Submitted
from emotion2vec_ui.records import rows
from emotion2vec_ui.records.report import Timing, Utterance
from emotion2vec_ui.records.rows import Row
from emotion2vec_ui.records.subclasses import Card, Trained

if TYPE_CHECKING:
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.models.loader import Loaded

log = logging.getLogger(__name__)

DEVICE_LOSSES = 3
"""How often in a row the GPU may fail before the run ends."""

MODEL_POLL_S = 0.5
MODEL_TOLD_EVERY_S = 10.0


@dataclass(frozen=True)
class Answered:
    """A file that was read, and what became of it.

    Attributes:
        file: its size and time just before it was read.
        row: None where its content is that of the row it has.
        error: why the row has no emotion.
        taken_s: decoding and the model's time.
    """

    file: Found
    row: Row | None
    error: EmotionError | None = None
    taken_s: float = 0.0


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
    root: str,
    loaded: Loaded,
    *,
    granularity: str,
    embedding: bool,
    trained: Sequence[Trained] = (),
) -> Terms:
    """What every row of this run has in common.

    Args:
        root: the folder or address that names are relative to.
        loaded: the model.
        granularity: "utterance" or "frame".
        embedding: whether rows have theirs.
        trained: sets of sub-classes that rows have.

    Raises:
        SubclassOfOtherModel: a set of sub-classes was trained on another model's embeddings.
    """
    for one in trained:
        one.require(loaded.weights_sha256, loaded.id)
    return Terms(
        schema=SCHEMA,
        root=shown_path(root),
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


class Bulk:
    """Sends decoded recordings to the model, by length, and makes the rows of its answers.

    Args:
        recogniser: whose steps are used.
        loaded: the model; the same for every row.
        terms: of the rows.
        agree: called with the terms of a model that was loaded again; raises where they differ.
        trained: sets of sub-classes that rows have.
        results: keeps recordings as results of their own, or None.
        cancelled: asked now and then whether to stop.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        loaded: Loaded,
        terms: Terms,
        *,
        agree: Callable[[Terms], None],
        trained: Sequence[Trained] = (),
        results: Results | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._recogniser = recogniser
        self._loaded = loaded
        self._terms = terms
        self._agree = agree
        self._trained = trained
        self._results = results
        self._cancelled = cancelled
        self._frames = terms.granularity == "frame"
        self._group = object()
        self._flying: deque[deque[tuple[Read, Submitted]]] = deque()
        self._losses = 0

    @property
    def chunks(self) -> int:
        """Calls of `submit` whose recordings are not answered."""
        return len(self._flying)

    def busy(self) -> bool:
        """Whether the model has work: a chunk's recordings are answered in order."""
        return bool(self._flying) and not self._flying[-1][-1][1].job.future.done()

    def submit(self, reads: list[Read]) -> list[Answered]:
        """Sends what was decoded to the model, the longest first; returns what needs no model."""
        heard, others = [], []
        for read in reads:
            if read.clip is not None:
                heard.append(read)
            else:
                row = None if read.error is None else self._error_row(read, read.error)
                others.append(Answered(read.file, row, read.error))
        heard.sort(key=lambda read: -read.duration_s)
        if heard:
            self._flying.append(deque((read, self._submitted(read)) for read in heard))
        return others

    def answers(self) -> Iterator[Answered]:
        """Waits for the oldest chunk's answers.

        Raises:
            Cancelled: `cancelled` said so.
            OutputError: a result cannot be kept; those before it are.
            ModelError: the model cannot go on.
        """
        chunk = self._flying[0]
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
            taken_s = submitted.job.inference_s + submitted.clip.decode_s
            yield Answered(read.file, row, error, taken_s)
        self._flying.popleft()

    def cancel(self) -> None:
        """Takes back what is not answered."""
        for chunk in self._flying:
            for _, submitted in chunk:
                submitted.job.cancel()

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
            self._terms.root,
            self._loaded,
            granularity=granularity,
            embedding=embedding,
            trained=self._trained,
        )
        self._agree(found)
        for chunk in self._flying:
            for place, (read, _) in enumerate(list(chunk)):
                chunk[place] = (read, self._submitted(read))


def _reference_sha256(loaded: Loaded) -> str:
    """Of what tells familiarity and calibrated confidence: `calibrate` changes it."""
    if loaded.reference is None:
        return "-"
    digest = hashlib.sha256()
    for value in astuple(loaded.reference):
        digest.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())
    return digest.hexdigest()
