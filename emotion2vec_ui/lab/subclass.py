"""Trains a set of sub-classes from labelled recordings: the verb of command line, API and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from emotion2vec_ui.errors import ResultNotFound, SubclassRefused
from emotion2vec_ui.lab import fit_head, samples
from emotion2vec_ui.lab.embedding_cache import EmbeddingCache
from emotion2vec_ui.lab.samples import Samples
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store, subclasses
from emotion2vec_ui.records.report import DECIMALS, now_text
from emotion2vec_ui.records.subclasses import Bin, Card, CurvePoint, Judged, NoneRule, Trained
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded
    from emotion2vec_ui.pipeline.recogniser import Recogniser

CACHE_NAME = ".embeddings.sqlite"

Step = Literal["hear", "fit"]


@dataclass(frozen=True)
class Wanted:
    """What is to be trained.

    Attributes:
        manifests: CSVs with path, label and speaker of each recording; together they are one.
        base: the emotion to divide, one of the nine.
        name: of the set.
        allow_small: train on too few samples or speakers, and say so with every result.
        licence: of the head, for its card.
    """

    manifests: tuple[Path, ...]
    base: str
    name: str
    allow_small: bool = False
    licence: str = ""


def train(
    wanted: Wanted,
    find: Callable[[Path, str], Path],
    recogniser: Recogniser,
    model: Callable[[], Loaded],
    *,
    on_checked: Callable[[Samples], None] = lambda checked: None,
    on_progress: Callable[[Step, int, int], None] = lambda step, done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Card:
    """Trains a set of sub-classes, judges it and keeps it as a new version.

    Args:
        wanted: what to train.
        find: where the recording is that a line of a manifest names: its folder and the name in.
        recogniser: hears the recordings, after everybody else's.
        model: gives the model; asked when the manifest was found good.
        on_checked: called with what the manifest covers, before it is judged sufficient.
        on_progress: called with a step, what of it is done and all of it.
        cancelled: asked now and then whether to stop.

    Raises:
        ManifestError, SubclassRefused: what was found, expected and to be done.
        Cancelled: `cancelled` said so; what was heard need not be heard again.
        EmotionError: the model or the disk failed.
    """
    name = subclasses.checked_name(wanted.name)
    if wanted.base not in EMOTIONS:
        facts = {"base": repr(wanted.base)[:40], "allowed": ", ".join(EMOTIONS)}
        raise SubclassRefused(problem=Phrase("subclass.no_such_base", **facts))
    outputs = recogniser.settings.outputs
    first = wanted.manifests[0]
    listed = [
        line
        for one in wanted.manifests
        for line in samples.read_manifest(one, partial(find, one.parent))
    ]
    lines = [(one.label, one.speaker) for one in listed]
    samples.require_enough(first, lines, allow_small=wanted.allow_small)
    loaded = model()
    cache = EmbeddingCache(
        outputs / subclasses.FOLDER_NAME / CACHE_NAME,
        loaded.weights_sha256,
        loaded.network.precision,
    )
    checked = samples.hear(
        listed,
        recogniser,
        loaded,
        cache,
        on_progress=lambda done, total: on_progress("hear", done, total),
        cancelled=cancelled,
    )
    on_checked(checked)
    lines = [(one.listed.label, one.listed.speaker) for one in checked.used]
    samples.require_enough(
        first,
        lines,
        allow_small=wanted.allow_small,
        problems=len(checked.left_out),
    )
    classes = tuple(checked.coverage)
    fitted = fit_head.fit(
        np.stack([one.heard.embedding for one in checked.used]),
        np.array([classes.index(label) for label, _ in lines]),
        np.array([speaker for _, speaker in lines]),
        classes,
        on_progress=lambda done, total: on_progress("fit", done, total),
    )
    card = _card(wanted, name, loaded, checked, fitted)
    return subclasses.save(outputs, Trained(card, fitted.head))


def recordings_in(outputs: Path) -> Callable[[Path, str], Path]:
    """Where the lines of a manifest lead: beside it, or into a past result in `outputs`.

    A result may be named by its folder; what the model heard is then the recording.
    """

    def find(folder: Path, name: str) -> Path:
        path = folder / name
        if path.is_dir():
            return path / store.AUDIO_NAME
        return path if path.exists() else result_audio(name, outputs) or path

    return find


def result_audio(name: str, outputs: Path) -> Path | None:
    """The recording of a past result that a manifest names; None where it names none.

    The name is a result's folder, alone or with folders before it and a file's name after it; only
    the result's own name is used.
    """
    for part in Path(name).parts:
        if store.is_result_name(part):
            try:
                return store.find(outputs, part) / store.AUDIO_NAME
            except ResultNotFound:
                return None
    return None


def _card(
    wanted: Wanted, name: str, loaded: Loaded, checked: Samples, fitted: fit_head.Fitted
) -> Card:
    judged = _rounded(fitted.judged)
    chance = 1 / len(fitted.head.classes)
    return Card(
        name=name,
        version=0,
        base=wanted.base,
        model=loaded.id,
        classes=fitted.head.classes,
        samples=len(checked.used),
        speakers=len({one.listed.speaker for one in checked.used}),
        uar=judged.uar,
        uar_interval=judged.uar_interval,
        coverage=dict(checked.coverage),
        small=checked.small,
        created=now_text(),
        weights_sha256=loaded.weights_sha256,
        precision=loaded.network.precision,
        licence=wanted.licence,
        data_sha256=checked.data_sha256,
        chance=_short(chance),
        above_chance=judged.uar_interval[0] > chance,
        others={name: _rounded(one) for name, one in fitted.others.items()},
        confusion=tuple(map(tuple, fitted.confusion.tolist())),
        ece=_short(fitted.ece),
        reliability=tuple(
            Bin(
                _short(one.from_share),
                _short(one.to_share),
                one.samples,
                _short(one.share),
                _short(one.right),
            )
            for one in fitted.reliability
        ),
        learning_curve=tuple(CurvePoint(one.samples, _short(one.uar)) for one in fitted.curve),
        more_samples=fitted.more_samples,
        none=NoneRule(
            neighbours=fitted.head.neighbours,
            above=fitted.head.none_above,
            quantile=fit_head.NONE_QUANTILE,
        ),
        regularisation=fitted.regularisation,
        temperature=fitted.head.temperature,
        left_out=checked.left_out,
    )


def _rounded(judged: Judged) -> Judged:
    low, high = judged.uar_interval
    return Judged(_short(judged.uar), (_short(low), _short(high)))


def _short(value: float) -> float:
    return round(value, DECIMALS)
