"""What a run over many recordings needs around it: a recogniser, signals, its journal's place.

`batch` writes what was found into a table, `evaluate` judges it by labels.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from emotion2vec_ui import texts
from emotion2vec_ui.console import say
from emotion2vec_ui.errors import ResultsFileError
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.batch.journal import Amount, Journal, Terms
    from emotion2vec_ui.batch.run import Progress
    from emotion2vec_ui.models.loader import Loaded
    from emotion2vec_ui.pipeline.recogniser import Recogniser
    from emotion2vec_ui.records.subclasses import Trained

log = logging.getLogger(__name__)

JOURNAL_SUFFIX = ".journal"


def work_through(
    recogniser: Recogniser,
    root: Path,
    journal: Journal,
    everything: Amount,
    todo: Amount,
    *,
    granularity: str,
    embedding: bool,
    trained: Sequence[Trained] = (),
    lang: str,
    cancelled: Callable[[], bool],
) -> tuple[Loaded, Terms, Progress]:
    """Recognises the files listed in the journal that have no row, and shows how far it is.

    Raises:
        Cancelled: `cancelled` said so; the rows that are done are kept.
        EmotionError: the run cannot begin or go on; rows that are done are kept.
    """
    from emotion2vec_ui.batch.bulk import terms, wait_for_model
    from emotion2vec_ui.batch.run import Run

    def waiting(state: str, share: float | None) -> None:
        log.info("waiting for the model: %s%s", state, "" if share is None else f" {share:.0%}")

    loaded = wait_for_model(recogniser.holder, cancelled, waiting)
    agreed = terms(str(root), loaded, granularity=granularity, embedding=embedding, trained=trained)
    with begun(journal, agreed, everything, todo, lang) as show:
        work = Run(
            root, journal, everything, todo, recogniser, loaded, agreed,
            trained=trained, on_progress=show, cancelled=cancelled,
        )  # fmt: skip
        done = work()
    return loaded, agreed, done


@contextlib.contextmanager
def begun(
    journal: Journal, agreed: Terms, everything: Amount, todo: Amount, lang: str
) -> Iterator[Callable[[Progress], None]]:
    """Agrees on the terms and says what begins; gives what to call after every file.

    Raises:
        ResultsFileError: the journal has rows on other terms.
    """
    from emotion2vec_ui.batch import progress

    journal.agree(agreed)
    skipped = everything.files - todo.files
    key = "batch.begin_again" if skipped else "batch.begin"
    say(texts.text(key, lang, files=everything.files, model=agreed.model, skipped=skipped))
    with progress.shown(everything.files, skipped, lang) as show:
        yield show


def check_place(out: Path, others: Sequence[Path]) -> None:
    """The folder of what a run writes must be there, and what is there must be ours.

    Args:
        out: that the journal stands beside.
        others: files that are written with it.

    Raises:
        ResultsFileError: a file stands there that no journal knows of.
    """
    if not out.parent.is_dir():
        raise ResultsFileError(path=out, problem=Phrase("batch.no_folder", path=out.parent))
    journal = beside(out, JOURNAL_SUFFIX)
    if journal.is_file() and journal.stat().st_size:
        return
    for path in (out, *others):
        if path.exists():
            problem = Phrase("batch.not_ours", name=path.name, journal=journal.name)
            raise ResultsFileError(path=path, problem=problem)


def beside(out: Path, suffix: str) -> Path:
    """A file that belongs to another: its whole name and an ending."""
    return out.with_name(out.name + suffix)


def remove_if_empty(journal: Journal) -> None:
    """A run that came to nothing leaves nothing."""
    rows, _, _ = journal.counts()
    if not rows:
        journal.remove()


@contextlib.contextmanager
def recogniser(settings: Settings) -> Iterator[Recogniser]:
    """A recogniser whose recordings are decoded in child processes."""
    from emotion2vec_ui.audio.decoding import Decoder
    from emotion2vec_ui.batch.run import TASKS_PER_WORKER, workers
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.pipeline.recogniser import Recogniser

    decoder = Decoder(settings.max_duration_s, workers=workers(), tasks_per_worker=TASKS_PER_WORKER)
    recogniser = Recogniser(settings, ModelHolder(settings), decoder)
    try:
        with _interrupts_kept():
            decoder.warm_up()
        yield recogniser
    finally:
        decoder.stop()
        recogniser.stop(timeout_s=1.0)


@contextlib.contextmanager
def signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; a second one ends the program at once."""
    came: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)

    def on_signal(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for kind in kinds:
            signal.signal(kind, before[kind])

    before = {kind: signal.signal(kind, on_signal) for kind in kinds}
    try:
        yield lambda: bool(came)
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Threads and processes that start meanwhile are not told of Ctrl-C: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # The first process starts a helper of multiprocessing, which lets Ctrl-C through again.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
