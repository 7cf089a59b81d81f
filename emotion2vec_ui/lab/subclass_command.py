"""`subclass`: train, list, show, use, apply and remove sub-classes of one's own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.console import FAILED, OK, in_words, language, print_json, say
from emotion2vec_ui.errors import EmotionError, SubclassNotFound
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.settings import Settings, add_flags
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.lab.samples import Samples
    from emotion2vec_ui.records.report import Report
    from emotion2vec_ui.records.subclasses import Card, Coverage

Action = Callable[[Settings, argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own commands and options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, action: Action, about: str, *groups: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=about, description=about)
        made.set_defaults(action_run=action)
        add_flags(made, (*groups, "audio"))
        return made

    train_ = add("train", train, "train sub-classes of a base emotion", "model")
    train_.add_argument(
        "manifests",
        nargs="+",
        type=Path,
        metavar="MANIFEST",
        help="CSV: path, label, speaker; gender and age where known; several are one",
    )
    train_.add_argument("--of", required=True, metavar="BASE", help=f"one of {', '.join(EMOTIONS)}")
    train_.add_argument("--name", required=True, metavar="NAME", help="of the set of sub-classes")
    train_.add_argument(
        "--allow-small",
        action="store_true",
        help="train on under 200 samples or 5 speakers of a sub-class; every result then says so",
    )
    train_.add_argument(
        "--licence", default="", metavar="TEXT", help="of what is trained, for its card"
    )

    list__ = add("list", list_, "list the sub-classes, or the versions of one set")
    list__.add_argument("name", nargs="?", metavar="NAME")

    show_ = add("show", show, "show the card of a set")
    show_.add_argument("name", metavar="NAME")

    use_ = add("use", use, "have an older (or newer) version be used")
    use_.add_argument("name", metavar="NAME")
    use_.add_argument("version", type=int, metavar="VERSION")

    apply_ = add("apply", apply, "tell the sub-classes of recordings; nothing is saved", "model")
    apply_.add_argument("files", nargs="+", type=Path, metavar="FILE")
    apply_.add_argument(
        "--subclass",
        action="append",
        default=[],
        metavar="NAME",
        help="several; default: every set that was trained on the model",
    )

    remove_ = add("remove", remove, "remove a set, or one version of it")
    remove_.add_argument("name", metavar="NAME")

    show_.add_argument("--version", type=int, metavar="N", help="default: the current one")
    remove_.add_argument("--version", type=int, metavar="N", help="default: all of them")
    for one in (train_, list__, show_, use_, apply_, remove_):
        one.add_argument("--json", action="store_true", help="print JSON")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Runs the action."""
    logs.configure("text")
    action: Action = options.action_run
    return action(settings, options)


def train(settings: Settings, options: argparse.Namespace) -> int:
    """Trains a set of sub-classes; shows first what the manifest covers, at last the card."""
    from emotion2vec_ui.lab import subclass
    from emotion2vec_ui.pipeline import standalone
    from emotion2vec_ui.pipeline.recogniser import MODEL_WAIT_S

    lang = language(settings)
    wanted = subclass.Wanted(
        manifests=tuple(options.manifests),
        base=options.of,
        name=options.name,
        allow_small=options.allow_small,
        licence=options.licence,
    )

    def progress(step: str, done: int, total: int) -> None:
        words = f"{texts.text(f'subclass.step.{step}', lang)} {done} / {total}"
        if done == total:
            say(f"\r{words}")
        elif sys.stderr.isatty():
            print(f"\r{words}", end="", file=sys.stderr, flush=True)

    with standalone.recogniser(settings) as recogniser:
        card = subclass.train(
            wanted,
            subclass.recordings_in(settings.outputs),
            recogniser,
            lambda: recogniser.holder.get(MODEL_WAIT_S),
            on_checked=lambda checked: _say_checked(checked, lang),
            on_progress=progress,
        )
    _print_card(card, lang, as_json=options.json)
    return OK


def list_(settings: Settings, options: argparse.Namespace) -> int:
    """A line for each set; with a name, one for each of its versions."""
    from emotion2vec_ui.records import subclasses

    lang = language(settings)
    outputs = settings.outputs
    if options.name is None:
        listed = [(name, subclasses.current(outputs, name)) for name in subclasses.names(outputs)]
    else:
        subclasses.current(outputs, options.name)  # or there is none of that name
        versions = subclasses.versions(outputs, options.name)
        listed = [(options.name, version) for version in versions]
    cards = [subclasses.card(outputs, name, version) for name, version in listed]
    if options.json:
        current = {name: subclasses.current(outputs, name) for name, _ in listed}
        print_json(
            {
                "subclasses": [
                    _as_dict(card) | {"current": card.version == current[card.name]}
                    for card in cards
                ]
            }
        )
        return OK
    if not cards:
        say(texts.text("subclass.none_trained", lang))
    for card in cards:
        print(_line(card, subclasses.current(outputs, card.name), lang))
    return OK


def show(settings: Settings, options: argparse.Namespace) -> int:
    """The card of a version."""
    from emotion2vec_ui.records import subclasses

    card = subclasses.card(settings.outputs, options.name, options.version)
    _print_card(card, language(settings), as_json=options.json)
    return OK


def use(settings: Settings, options: argparse.Namespace) -> int:
    """Makes a version the current one."""
    from emotion2vec_ui.records import subclasses

    subclasses.make_current(settings.outputs, options.name, options.version)
    if options.json:
        print_json({"name": options.name, "version": options.version})
    else:
        facts = {"name": options.name, "version": options.version}
        print(texts.text("subclass.in_use", language(settings), **facts))
    return OK


def apply(settings: Settings, options: argparse.Namespace) -> int:
    """Recognises each file and prints its sub-classes; one that fails does not stop the others."""
    from dataclasses import asdict

    from emotion2vec_ui.pipeline import standalone
    from emotion2vec_ui.pipeline.recogniser import MODEL_WAIT_S
    from emotion2vec_ui.records import subclasses

    lang = language(settings)
    failed = 0
    with standalone.recogniser(settings) as recogniser:
        names = options.subclass
        if not names:
            loaded = recogniser.holder.get(MODEL_WAIT_S)
            names = [
                name
                for name in subclasses.names(settings.outputs)
                if subclasses.card(settings.outputs, name).weights_sha256 == loaded.weights_sha256
            ]
            if not names:
                known = ", ".join(subclasses.names(settings.outputs)) or "-"
                raise SubclassNotFound(name=loaded.id, known=known)
        for path in options.files:
            try:
                report = recogniser.analyse(path, subclass=names, lang=lang, save=False).report
            except EmotionError as error:
                failed += 1
                say(f"{path}: {in_words(error, lang)}")
                if options.json:
                    print_json({"error": error.to_dict(lang), "file": str(path)})
                continue
            if options.json:
                divided = {name: asdict(one) for name, one in (report.subclasses or {}).items()}
                facts = {"emotion": report.emotion, "confidence": report.confidence}
                print_json({**facts, "subclasses": divided, "file": str(path)})
            else:
                name = texts.text(f"emotion.{report.emotion}", lang)
                print("\n".join([f"{path}: {name} {report.confidence:.1%}", *lines(report, lang)]))
    return FAILED if failed else OK


def remove(settings: Settings, options: argparse.Namespace) -> int:
    """Removes a set or one of its versions; the base emotions cannot be removed."""
    from emotion2vec_ui.records import subclasses

    name = subclasses.checked_name(options.name)
    removed = subclasses.remove(settings.outputs, name, options.version)
    if options.json:
        print_json({"name": name, "removed": removed})
    else:
        facts = {"name": name, "versions": ", ".join(map(str, removed))}
        print(texts.text("subclass.removed", language(settings), **facts))
    return OK


# --- in words -------------------------------------------------------------------------------------


def lines(report: Report, lang: str) -> list[str]:
    """The sub-classes of a report, a line for each score, below a line for each set."""
    found = []
    for name, one in (report.subclasses or {}).items():
        base = Phrase(f"emotion.{one.base}")
        score = report.nine_scores[one.base]
        small = " " + texts.text("subclass.small.short", lang) if one.small else ""
        found.append(
            "  "
            + texts.text("subclass.of", lang, name=name, version=one.version, base=base)
            + f" {score:.1%}{small}"
        )
        found += [f"    {label}: {part:.1%}" for label, part in one.scores.items()]
        found.append(f"    {texts.text('subclass.none', lang)}: {one.none:.1%}")
    return found


def _as_dict(card: Card) -> dict[str, object]:
    from emotion2vec_ui.records.subclasses import to_json

    content: dict[str, object] = json.loads(to_json(card))
    return content


def _print_card(card: Card, lang: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_dict(card))
        return
    low, high = card.uar_interval
    judged = {"uar": card.uar, "low": low, "high": high, "chance": card.chance}
    print(_line(card, card.version, lang))
    print(texts.text("subclass.card.judged", lang, speakers=card.speakers, **judged))
    if not card.above_chance:
        print(texts.text("subclass.card.chance", lang))
    if card.small:
        print(texts.text("subclass.small", lang))
    for name, other in card.others.items():
        low, high = other.uar_interval
        kind = Phrase(f"subclass.kind.{name}")
        print(texts.text("subclass.card.other", lang, kind=kind, uar=other.uar, low=low, high=high))
    print(texts.text("subclass.card.ece", lang, ece=card.ece))
    curve = ", ".join(f"{one.samples}: {one.uar:.3f}" for one in card.learning_curve)
    print(texts.text("subclass.card.curve", lang, curve=curve))
    print(texts.text(f"subclass.more.{card.more_samples}", lang))
    print(texts.text("subclass.card.confusion", lang))
    width = max(map(len, card.classes))
    for label, row in zip(card.classes, card.confusion, strict=True):
        print(f"  {label:<{width}} " + " ".join(f"{count:6d}" for count in row))
    for label, covered in card.coverage.items():
        for line in _covered(label, covered, lang):
            print(line)
    print(texts.text("subclass.card.licence", lang, licence=card.licence or "-"))


def _line(card: Card, current: int, lang: str) -> str:
    low, high = card.uar_interval
    facts = {
        "name": card.name,
        "version": card.version,
        "base": Phrase(f"emotion.{card.base}"),
        "model": card.model,
        "classes": ", ".join(card.classes),
        "samples": card.samples,
        "speakers": card.speakers,
        "uar": card.uar,
        "low": low,
        "high": high,
        "created": card.created,
    }
    mark = "* " if card.version == current else "  "
    small = " " + texts.text("subclass.small.short", lang) if card.small else ""
    return mark + texts.text("subclass.line", lang, **facts) + small


def _say_checked(checked: Samples, lang: str) -> None:
    """What the manifest covers, and what of it was left out."""
    for label, covered in checked.coverage.items():
        for line in _covered(label, covered, lang):
            say(line)
    for one in checked.left_out:
        reason = Phrase(f"subclass.left_out.{one.reason}", detail=one.detail)
        say(texts.text("subclass.left_out", lang, path=one.path, reason=reason))


def _covered(label: str, covered: Coverage, lang: str) -> list[str]:
    def counts(parts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in parts.items())

    facts = {
        "label": label,
        "samples": covered.samples,
        "speakers": covered.speakers,
        "genders": counts(covered.genders),
        "ages": counts(covered.ages),
        "shortest": covered.duration_s.min,
        "median": covered.duration_s.median,
        "longest": covered.duration_s.max,
        "quality": counts(covered.quality),
        "copies": covered.copies,
        "near_copies": covered.near_copies,
    }
    found = [texts.text("subclass.covered", lang, **facts)]
    found += [f"  ! {texts.text(f'subclass.gap.{gap}', lang)}" for gap in covered.gaps]
    return found
