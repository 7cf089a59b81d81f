"""`batch`: the command around a run: what is given, what is said, what is written at the end."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.batch import session
from emotion2vec_ui.console import FAILED, INTERRUPTED, OK, language, print_json, say
from emotion2vec_ui.errors import NoRecordings
from emotion2vec_ui.settings import Settings, UsageError
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.batch.journal import Amount, Journal, Terms
    from emotion2vec_ui.batch.manifest import Selection
    from emotion2vec_ui.batch.remote import RemoteSelection
    from emotion2vec_ui.batch.run import Progress
    from emotion2vec_ui.records.report import Model
    from emotion2vec_ui.records.subclasses import Trained

FORMATS = (".parquet", ".csv", ".jsonl")

REPORT_SUFFIX = ".html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "given",
        nargs="+",
        metavar="DIR|GLOB|MANIFEST",
        help="a folder (with all below it), a pattern in quotes, or a CSV with a column of paths; "
        "with --engine ray also s3://bucket/folder or gs://bucket/folder",
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
        "--subclass",
        action="append",
        default=[],
        metavar="NAME",
        help="add columns of how a base emotion's score divides among trained sub-classes; several",
    )
    parser.add_argument(
        "--path-column", default="path", help="of a manifest (default: %(default)s)"
    )
    parser.add_argument(
        "--any-columns",
        action="store_true",
        help="a manifest may have columns that no command knows; they are not read",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where it runs: on this machine, or on a Ray cluster (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="with --engine ray: the cluster; auto finds the one that this machine belongs to "
        "(default: starts Ray on this machine)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="with --engine ray: models in all (default: one on each GPU, or on each machine)",
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
    from emotion2vec_ui.batch import manifest, remote, table
    from emotion2vec_ui.batch.journal import Journal
    from emotion2vec_ui.pipeline.recogniser import Cancelled
    from emotion2vec_ui.records import subclasses
    from emotion2vec_ui.records.rows import subclass_columns

    lang = language(settings)
    table.check_available(options.out)
    if options.engine == "ray":
        from emotion2vec_ui.batch import ray_engine

        ray_engine.check_available()
    selection: Selection | RemoteSelection
    if remote.is_address(options.given[0]):
        selection = remote.select(options.given[0])
    else:
        selection = manifest.select(
            options.given[0], path_column=options.path_column, any_columns=options.any_columns
        )
    trained = tuple(
        subclasses.load(settings.outputs, one) for one in dict.fromkeys(options.subclass)
    )
    subclass_columns(one.card for one in trained)
    session.check_place(options.out, [session.beside(options.out, REPORT_SUFFIX)])
    with (
        contextlib.closing(Journal(session.beside(options.out, session.JOURNAL_SUFFIX))) as journal,
        session.signals() as cancelled,
    ):
        try:
            return _run(settings, options, selection, trained, journal, lang, cancelled)
        except Cancelled:
            rows, _, _ = journal.counts()
            key = "batch.stopped" if rows else "batch.stopped_early"
            say(texts.text(key, lang, count=rows, journal=journal.path, out=options.out))
            return INTERRUPTED
        finally:
            session.remove_if_empty(journal)


def _run(
    settings: Settings,
    options: argparse.Namespace,
    selection: Selection | RemoteSelection,
    trained: tuple[Trained, ...],
    journal: Journal,
    lang: str,
    cancelled: Callable[[], bool],
) -> int:
    from emotion2vec_ui.batch.manifest import Selection
    from emotion2vec_ui.pipeline.describe import model_facts

    if options.engine == "ray":
        from emotion2vec_ui.batch import ray_engine
        from emotion2vec_ui.batch.ray_worker import Order

        everything, todo, unreadable = _list(selection, journal, options)
        order = Order(
            settings, str(selection.root), options.granularity, options.embedding, trained
        )
        model, agreed, done = ray_engine.work_through(
            order, journal, everything, todo,
            address=options.address, workers=options.workers, lang=lang, cancelled=cancelled,
        )  # fmt: skip
    else:
        assert isinstance(selection, Selection)
        with session.recogniser(settings) as recogniser:
            recogniser.holder.start()  # it loads while the files are listed
            everything, todo, unreadable = _list(selection, journal, options)
            loaded, agreed, done = session.work_through(
                recogniser, selection.root, journal, everything, todo,
                granularity=options.granularity, embedding=options.embedding, trained=trained,
                lang=lang, cancelled=cancelled,
            )  # fmt: skip
        model = model_facts(loaded)
    for problem in unreadable:
        say(texts.text("batch.unreadable", lang, path=problem.filename, detail=problem.strerror))
    _write(options, selection, trained, journal, model, agreed, lang)
    return _tell(options, journal, done, model, len(unreadable), lang)


def _list(
    selection: Selection | RemoteSelection, journal: Journal, options: argparse.Namespace
) -> tuple[Amount, Amount, list[OSError]]:
    """Takes in the files; returns how many there are, how many to do, and folders unread."""
    unreadable: list[OSError] = []
    ours = {options.out.resolve()} | {
        session.beside(options.out, suffix).resolve()
        for suffix in (session.JOURNAL_SUFFIX, REPORT_SUFFIX)
    }
    files = (
        file
        for file in selection.files(unreadable.append)
        # A pattern may well name the table of an earlier run.
        if isinstance(selection.root, str) or selection.root / file.name not in ours
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
    selection: Selection | RemoteSelection,
    trained: tuple[Trained, ...],
    journal: Journal,
    model: Model,
    agreed: Terms,
    lang: str,
) -> None:
    """The table from the journal, and the report from the same rows."""
    from emotion2vec_ui.batch import table
    from emotion2vec_ui.drawing.batch_view import batch_page
    from emotion2vec_ui.records.rows import Row, subclass_columns
    from emotion2vec_ui.records.summary import Tally

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
            **({"subclass": agreed.subclass} if trained else {}),
        },
        subclasses=subclass_columns(one.card for one in trained),
        segments=agreed.granularity == "frame",
        embedding=agreed.embedding,
        lang=lang,
        journal=journal.path,
    )
    report = session.beside(options.out, REPORT_SUFFIX)
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
    model: Model,
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
    report = session.beside(options.out, REPORT_SUFFIX)
    if options.json:
        print_json(
            {
                "out": str(options.out),
                "report": str(report),
                "model": model.id,
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
    from emotion2vec_ui.batch.remote import is_address

    if len(options.given) > 1:
        raise UsageError(
            f"{len(options.given)} names were given, one is expected. Put a pattern in quotes, or "
            "the shell replaces it: batch 'calls/*.wav' --out results.csv"
        )
    suffix = options.out.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"--out {options.out}: the ending is none of {', '.join(FORMATS)}.")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: at least 1 is needed.")
    if options.engine != "ray" and (options.address or options.workers):
        raise UsageError("--address and --workers go with --engine ray.")
    if options.engine != "ray" and is_address(options.given[0]):
        raise UsageError(f"{options.given[0]}: addresses are read with --engine ray only.")
    if options.embedding and suffix == ".csv":
        raise UsageError(
            "--embedding: a CSV has no room for vectors. Use --out with .parquet or .jsonl."
        )
