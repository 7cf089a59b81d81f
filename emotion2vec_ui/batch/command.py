"""`batch`: the command around a run: what is given, what is said, what is written at the end."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.console import FAILED, INTERRUPTED, OK, language, print_json, say
from emotion2vec_ui.errors import NoRecordings, ResultsFileError
from emotion2vec_ui.settings import Settings, UsageError
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.batch.journal import Amount, Journal, Terms
    from emotion2vec_ui.batch.manifest import Selection
    from emotion2vec_ui.batch.run import Progress
    from emotion2vec_ui.models.loader import Loaded
    from emotion2vec_ui.pipeline.recogniser import Recogniser

log = logging.getLogger(__name__)

FORMATS = (".parquet", ".csv", ".jsonl")

JOURNAL_SUFFIX = ".journal"
REPORT_SUFFIX = ".html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "given",
        nargs="+",
        metavar="DIR|GLOB|MANIFEST",
        help="a folder (with all below it), a pattern in quotes, or a CSV with a column of paths",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the table: .parquet, .csv or .jsonl; the same command goes on where it stopped",
    )
    parser.add_argument(
        "--granularity",
        choices=("utterance", "frame"),
        default="utterance",
        help="frame adds a column of segments (default: %(default)s)",
    )
    parser.add_argument(
        "--embedding", action="store_true", help="add the embedding; .parquet or .jsonl only"
    )
    parser.add_argument(
        "--path-column", default="path", help="of a manifest (default: %(default)s)"
    )
    parser.add_argument(
        "--any-columns",
        action="store_true",
        help="a manifest may have columns that no command knows; they are not read",
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Recognises what has no row yet, then writes the table and its report.

    Raises:
        UsageError: the options do not go together.
        EmotionError: the run cannot begin or go on; rows that are done are kept.
    """
    _check(options)
    logs.configure("text")
    from emotion2vec_ui.batch import manifest, table
    from emotion2vec_ui.batch.journal import Journal
    from emotion2vec_ui.pipeline.recogniser import Cancelled

    lang = language(settings)
    table.check_available(options.out)
    selection = manifest.select(
        options.given[0], path_column=options.path_column, any_columns=options.any_columns
    )
    _check_place(options.out)
    with (
        contextlib.closing(Journal(_beside(options.out, JOURNAL_SUFFIX))) as journal,
        _signals() as cancelled,
    ):
        try:
            return _run(settings, options, selection, journal, lang, cancelled)
        except Cancelled:
            rows, _, _ = journal.counts()
            key = "batch.stopped" if rows else "batch.stopped_early"
            say(texts.text(key, lang, count=rows, journal=journal.path, out=options.out))
            return INTERRUPTED
        finally:
            _remove_if_empty(journal)


def _run(
    settings: Settings,
    options: argparse.Namespace,
    selection: Selection,
    journal: Journal,
    lang: str,
    cancelled: Callable[[], bool],
) -> int:
    from emotion2vec_ui.batch import progress
    from emotion2vec_ui.batch.run import Run, terms, wait_for_model

    def waiting(state: str, share: float | None) -> None:
        log.info("waiting for the model: %s%s", state, "" if share is None else f" {share:.0%}")

    with _recogniser(settings) as recogniser:
        recogniser.holder.start()  # it loads while the files are listed
        everything, todo, unreadable = _list(selection, journal, options)
        loaded = wait_for_model(recogniser.holder, cancelled, waiting)
        agreed = terms(
            selection.root,
            loaded,
            granularity=options.granularity,
            embedding=options.embedding,
        )
        journal.agree(agreed)
        skipped = everything.files - todo.files
        key = "batch.begin_again" if skipped else "batch.begin"
        say(texts.text(key, lang, files=everything.files, model=loaded.id, skipped=skipped))
        with progress.shown(everything.files, skipped, lang) as show:
            work = Run(
                selection.root, journal, everything, todo, recogniser, loaded, agreed,
                on_progress=show, cancelled=cancelled,
            )  # fmt: skip
            done = work()
    for problem in unreadable:
        say(texts.text("batch.unreadable", lang, path=problem.filename, detail=problem.strerror))
    _write(options, selection, journal, loaded, agreed, lang)
    return _tell(options, journal, done, loaded, len(unreadable), lang)


def _list(
    selection: Selection, journal: Journal, options: argparse.Namespace
) -> tuple[Amount, Amount, list[OSError]]:
    """Takes in the files; returns how many there are, how many to do, and folders unread."""
    unreadable: list[OSError] = []
    ours = {options.out.resolve()} | {
        _beside(options.out, suffix).resolve() for suffix in (JOURNAL_SUFFIX, REPORT_SUFFIX)
    }
    files = (
        file
        for file in selection.files(unreadable.append)
        # A pattern may well name the table of an earlier run.
        if selection.root / file.name not in ours
    )
    everything, todo = journal.list_files(files)
    if not everything.files:
        problem = Phrase("batch.nothing_found")
        if unreadable:
            detail = unreadable[0].strerror or "I/O error"
            problem = Phrase("batch.folder_unreadable", detail=detail)
        raise NoRecordings(name=options.given[0], problem=problem)
    return everything, todo, unreadable


def _write(
    options: argparse.Namespace,
    selection: Selection,
    journal: Journal,
    loaded: Loaded,
    agreed: Terms,
    lang: str,
) -> None:
    """The table from the journal, and the report from the same rows."""
    from emotion2vec_ui.batch import table
    from emotion2vec_ui.drawing.batch_view import batch_page
    from emotion2vec_ui.pipeline.describe import model_facts
    from emotion2vec_ui.records.rows import Row
    from emotion2vec_ui.records.summary import Tally

    model = model_facts(loaded)
    tally = Tally()

    def counted() -> Iterator[Row]:
        for row, modified_s in journal.rows():
            tally.add(row, modified_s)
            yield row

    table.write(
        options.out,
        counted(),
        facts={
            "root": agreed.root,
            "model": json.dumps(asdict(model)),
            "granularity": agreed.granularity,
        },
        segments=agreed.granularity == "frame",
        embedding=agreed.embedding,
        lang=lang,
        journal=journal.path,
    )
    report = _beside(options.out, REPORT_SUFFIX)
    page = batch_page(
        tally.summary(),
        model,
        root=selection.root,
        folder=report.parent.resolve(),
        name=options.out.name,
        lang=lang,
    )
    table.write_whole(
        report, lambda file: file.write(page.encode("utf-8", "replace")), journal=journal.path
    )


def _tell(
    options: argparse.Namespace,
    journal: Journal,
    done: Progress,
    loaded: Loaded,
    unreadable: int,
    lang: str,
) -> int:
    """What was done, and each recording with an error."""
    from emotion2vec_ui.batch.progress import duration

    rows, failed, audio_s = journal.counts()
    failures = []
    for row, _ in journal.rows(failed_only=True):
        error = (row.error or {}).get(lang, row.status)
        say(f"{row.path}: {error}")
        if options.json:
            failures.append({"path": row.path, "code": row.status, "message": error})
    report = _beside(options.out, REPORT_SUFFIX)
    if options.json:
        print_json(
            {
                "out": str(options.out),
                "report": str(report),
                "model": loaded.id,
                "files": rows,
                "ok": rows - failed,
                "failed": failed,
                "recognised": done.done,
                "skipped": done.skipped,
                "audio_s": round(audio_s, 3),
                "run_audio_s": round(done.audio_s, 3),
                "run_s": round(done.elapsed_s, 3),
                "failures": failures,
            }
        )
    else:
        key = "batch.done" if done.done else "batch.nothing_new"
        say(
            texts.text(
                key,
                lang,
                done=done.done,
                skipped=done.skipped,
                time=duration(done.elapsed_s),
                hours=done.audio_s / 3600,
                speed=done.speed,
            )
        )
        print(texts.text("batch.rows", lang, rows=rows, ok=rows - failed, failed=failed))
        print(f"-> {options.out}")
        print(f"-> {report}")
    return FAILED if failed or unreadable else OK


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError for what cannot be meant."""
    if len(options.given) > 1:
        raise UsageError(
            f"{len(options.given)} names were given, one is expected. Put a pattern in quotes, or "
            "the shell replaces it: batch 'calls/*.wav' --out results.csv"
        )
    suffix = options.out.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"--out {options.out}: the ending is none of {', '.join(FORMATS)}.")
    if options.embedding and suffix == ".csv":
        raise UsageError(
            "--embedding: a CSV has no room for vectors. Use --out with .parquet or .jsonl."
        )


def _check_place(out: Path) -> None:
    """The table's folder must be there, and what is there must be ours.

    Raises:
        ResultsFileError: a file stands there that no journal knows of.
    """
    if not out.parent.is_dir():
        raise ResultsFileError(path=out, problem=Phrase("batch.no_folder", path=out.parent))
    journal = _beside(out, JOURNAL_SUFFIX)
    if journal.is_file() and journal.stat().st_size:
        return
    for path in (out, _beside(out, REPORT_SUFFIX)):
        if path.exists():
            problem = Phrase("batch.not_ours", name=path.name, journal=journal.name)
            raise ResultsFileError(path=path, problem=problem)


def _beside(out: Path, suffix: str) -> Path:
    """A file that belongs to a table: its whole name and an ending."""
    return out.with_name(out.name + suffix)


def _remove_if_empty(journal: Journal) -> None:
    """A run that came to nothing leaves nothing."""
    rows, _, _ = journal.counts()
    if not rows:
        journal.remove()


@contextlib.contextmanager
def _recogniser(settings: Settings) -> Iterator[Recogniser]:
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
def _signals() -> Iterator[Callable[[], bool]]:
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
