"""`evaluate`: the command around an evaluation: what is given, what is said, what is written."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.batch import session
from emotion2vec_ui.console import FAILED, INTERRUPTED, OK, language, print_json, say
from emotion2vec_ui.settings import Settings, UsageError
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.batch.evaluate import Judged
    from emotion2vec_ui.batch.journal import Journal
    from emotion2vec_ui.models.loader import Loaded
    from emotion2vec_ui.pipeline.recogniser import Recogniser
    from emotion2vec_ui.records.evaluation import Check, Evaluation
    from emotion2vec_ui.records.labelled import LabelledClip, LabelSet
    from emotion2vec_ui.records.rows import Row

REPORT_SUFFIX, JSON_SUFFIX = ".html", ".json"
DEFAULT_NAME = "{name}.evaluation.html"

TEXT_GROUPS = 8
"""Groups of a column that are printed, the worst first; the report has more, the JSON all."""

ROBUSTNESS_CLIPS = 100
"""Recordings for `--robustness`, each recognised 14 times. With 100, 0.95 is uncertain by 0.04."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "manifest",
        type=Path,
        metavar="MANIFEST",
        help="a CSV (path, emotion, speaker, ...), EmoBox's JSON lines, a folder in audformat, or "
        "a folder of audio with metadata.csv, metadata.jsonl or classes as folders",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the report, with its JSON beside it (default: NAME.evaluation.html, here); the same "
        "command goes on where it stopped",
    )
    parser.add_argument("--path-column", help="default: path; of EmoBox: wav")
    parser.add_argument("--label-column", help="default: emotion; of EmoBox: emo")
    for name in ("speaker", "gender", "language", "corpus"):
        parser.add_argument(f"--{name}-column", default=name, help="default: %(default)s")
    parser.add_argument(
        "--any-columns",
        action="store_true",
        help="a CSV may have columns that no command knows; they are not read",
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="that paths are relative to")
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="of audformat, with the labels"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="LABEL=EMOTION",
        help="what a label stands for, such as boredom=other; may be given several times",
    )
    parser.add_argument(
        "--robustness",
        type=int,
        nargs="?",
        const=ROBUSTNESS_CLIPS,
        default=0,
        metavar="N",
        help=f"also recognise N recordings changed in 13 ways (default: {ROBUSTNESS_CLIPS})",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Recognises what is labelled, judges it and writes the report.

    Raises:
        UsageError: the options cannot be meant.
        EmotionError: the labels cannot be used, or the run cannot begin or go on.
    """
    from emotion2vec_ui.records import emotion_names, labelled

    names = emotion_names.parse(options.map)
    _check(options)
    logs.configure("text")
    from emotion2vec_ui.batch import evaluate
    from emotion2vec_ui.batch.journal import Journal
    from emotion2vec_ui.pipeline.recogniser import Cancelled

    lang = language(settings)
    given = options.manifest.expanduser().resolve()
    columns = labelled.Columns(
        path=options.path_column,
        label=options.label_column,
        speaker=options.speaker_column,
        gender=options.gender_column,
        language=options.language_column,
        corpus=options.corpus_column,
        any_columns=options.any_columns,
        tables=tuple(options.table),
    )
    root = options.root.expanduser().resolve() if options.root else None
    labels = labelled.read(given, columns, names, root=root)
    _say_labels(labels, lang)
    evaluate.require_labels(given, [clip.truth for clip in labels.clips])
    out = options.out or Path(DEFAULT_NAME.format(name=given.stem))
    session.check_place(out, [out.with_suffix(JSON_SUFFIX)])
    with (
        contextlib.closing(Journal(session.beside(out, session.JOURNAL_SUFFIX))) as journal,
        session.signals() as cancelled,
    ):
        try:
            found, failed = _run(settings, options, given, labels, journal, lang, cancelled)
        except Cancelled:
            rows, _, _ = journal.counts()
            key = "batch.stopped" if rows else "batch.stopped_early"
            say(texts.text(key, lang, count=rows, journal=journal.path, out=out))
            return INTERRUPTED
        finally:
            session.remove_if_empty(journal)
        _write(out, found, journal.path, lang)
    for clip, row in failed.items():
        say(f"{clip.path.name}: {(row.error or {}).get(lang, row.status)}")
    if options.json:
        from emotion2vec_ui.records.evaluation import to_dict

        print_json(to_dict(found) | {"report": str(out)})
    else:
        print("\n".join(_as_text(found, lang)))
        print(f"-> {out}")
        print(f"-> {out.with_suffix(JSON_SUFFIX)}")
    return FAILED if failed else OK


def _run(
    settings: Settings,
    options: argparse.Namespace,
    given: Path,
    labels: LabelSet,
    journal: Journal,
    lang: str,
    cancelled: Callable[[], bool],
) -> tuple[Evaluation, dict[LabelledClip, Row]]:
    from emotion2vec_ui.batch import evaluate

    selection = evaluate.selection(labels)
    with session.recogniser(settings) as recogniser:
        recogniser.holder.start()
        everything, todo = journal.list_files(selection.files(lambda error: None))
        loaded, _, _ = session.work_through(
            recogniser, selection.root, journal, everything, todo,
            granularity="utterance", embedding=True, lang=lang, cancelled=cancelled,
        )  # fmt: skip
        judged, failed = evaluate.match(labels, (row for row, _ in journal.rows()))
        evaluate.require_labels(given, [one.clip.truth for one in judged])
        robustness = None
        if options.robustness:
            chosen = evaluate.sample(judged, options.robustness, options.seed)
            robustness = _robustness(recogniser, loaded, chosen, options.seed, lang, cancelled)
    return evaluate.evaluation(given, labels, judged, failed, loaded, robustness), failed


def _robustness(
    recogniser: Recogniser,
    loaded: Loaded,
    chosen: Sequence[Judged],
    seed: int,
    lang: str,
    cancelled: Callable[[], bool],
) -> tuple[Check, ...]:
    from tqdm import tqdm

    from emotion2vec_ui.batch import evaluate

    say(texts.text("evaluate.robustness.begin", lang, count=len(chosen)))
    with tqdm(total=len(chosen), disable=not sys.stderr.isatty()) as bar:
        return evaluate.robustness(
            recogniser, loaded, chosen,
            seed=seed, on_progress=lambda done: bar.update(done - bar.n), cancelled=cancelled,
        )  # fmt: skip


def _write(out: Path, found: Evaluation, journal: Path, lang: str) -> None:
    """The report and its JSON, each complete or not at all."""
    from emotion2vec_ui.batch import table
    from emotion2vec_ui.drawing.evaluation_view import evaluation_page
    from emotion2vec_ui.records.evaluation import to_dict

    page = evaluation_page(found, lang=lang)
    content = json.dumps(to_dict(found), ensure_ascii=False, indent=1)
    for path, text in ((out, page), (out.with_suffix(JSON_SUFFIX), content + "\n")):
        encoded = text.encode("utf-8", "replace")
        table.write_whole(path, partial(_fill, content=encoded), journal=journal)


def _fill(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError for what cannot be meant."""
    if options.out is not None and options.out.suffix.lower() != REPORT_SUFFIX:
        raise UsageError(f"--out {options.out}: the report's name ends in {REPORT_SUFFIX}.")
    if options.robustness < 0:
        raise UsageError(f"--robustness {options.robustness}: expected a number of recordings.")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: expected 0 or more.")


# --- words ----------------------------------------------------------------------------------------


def _say_labels(labels: LabelSet, lang: str) -> None:
    """What each label is taken for, and what is left out."""
    for label, (emotion, count) in labels.names.items():
        facts = {"label": label, "count": count, "emotion": Phrase(f"emotion.{emotion}.inline")}
        say(texts.text("evaluate.taken_for", lang, **facts))
    for label, count in labels.left_out.items():
        say(texts.text("evaluate.left.label", lang, label=label or "-", count=count))
    if labels.segments:
        say(texts.text("evaluate.left.segments", lang, count=labels.segments))
    if labels.repeated:
        say(texts.text("evaluate.left.repeated", lang, count=labels.repeated))


def _as_text(found: Evaluation, lang: str) -> list[str]:
    """The figures as lines; the report says more."""
    from emotion2vec_ui.drawing.evaluation_view import caveat_words, interval

    figures, model = found.figures, found.model
    hours = f"{found.audio_s / 3600:.2f}"
    estimates = {
        "evaluate.uar": figures.uar,
        "evaluate.wa": figures.wa,
        "evaluate.macro_f1": figures.macro_f1,
        "evaluate.uar_own_classes": figures.uar_own_classes,
    }
    judged = Phrase("evaluate.judged", clips=figures.clips, hours=hours, left=found.left.recordings)
    by = Phrase("evaluate.by_clip")
    if figures.speakers:
        by = Phrase("evaluate.by_speaker", count=figures.speakers)
    return [
        f"{model.id}, SHA-256 {(model.weights_sha256 or '-')[:12]}, {model.precision}, "
        f"{model.runtime}, {found.hardware}",
        *(f"! {_in_words(words, lang)}" for words in caveat_words(found)),
        *(_in_words(words, lang) for words in (judged, by, Phrase("evaluate.definition"))),
        *(
            f"  {100 * one.value:5.1f} %  ({interval(one)})  {texts.text(key, lang)}"
            for key, one in estimates.items()
        ),
        f"  {100 * figures.ece:5.1f} %  {texts.text('evaluate.ece', lang)}",
        f"  {100 * figures.aurc:5.1f} %  {texts.text('evaluate.aurc', lang)}",
        texts.text("evaluate.classes", lang),
        *(
            f"  {100 * one.recall:5.1f} %  {texts.text(f'emotion.{one.emotion}', lang)} "
            f"({one.clips})"
            for one in figures.classes
        ),
        *_groups_as_text(found, lang),
        *_checks_as_text("evaluate.checks", found.checks, lang),
        *_checks_as_text("evaluate.robustness", found.robustness or (), lang),
        *_published_as_text(found, lang),
    ]


def _in_words(words: Phrase, lang: str) -> str:
    return texts.text(words.key, lang, **words.facts)


def _groups_as_text(found: Evaluation, lang: str) -> Iterator[str]:
    from emotion2vec_ui.drawing.evaluation_view import gap_words, interval

    for grouping in found.groupings:
        yield texts.text(f"evaluate.by.{grouping.kind}", lang)
        for group in grouping.groups[:TEXT_GROUPS]:
            small = f"  {texts.text('evaluate.small', lang)}" if group.is_small else ""
            value = f"{100 * group.uar.value:5.1f} %  ({interval(group.uar)})"
            yield f"  {value}  {group.name} ({group.clips}){small}"
        more = len(grouping.groups) - TEXT_GROUPS
        if more > 0:
            yield f"  {texts.text('evaluate.more_groups', lang, count=more)}"
        yield f"  {_in_words(gap_words(grouping.gap), lang)}"


def _checks_as_text(title: str, checks: Sequence[Check], lang: str) -> Iterator[str]:
    from emotion2vec_ui.drawing.evaluation_view import check_figure, check_words

    if checks:
        yield texts.text(title, lang)
    for check in checks:
        verdict = texts.text("evaluate.passed" if check.passed else "evaluate.failed", lang)
        sign = "<" if check.area == "fairness" else ">"
        value, threshold = (check_figure(check, one) for one in (check.value, check.threshold))
        words = _in_words(check_words(check), lang)
        yield f"  {value:>7} {sign} {threshold:<7} {verdict:<7} {words}"


def _published_as_text(found: Evaluation, lang: str) -> Iterator[str]:
    if found.published:
        yield texts.text("evaluate.published", lang)
    for one in found.published:
        yield (
            f"  {one.corpus}: UAR plus_large {100 * one.uar:.1f} %, {found.model.id} "
            f"{100 * one.here_uar:.1f} %; WA {100 * one.wa:.1f} %, {100 * one.here_wa:.1f} %"
        )
