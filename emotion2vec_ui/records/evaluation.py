"""How good a model is on somebody's labels: all figures of an evaluation, and its JSON.

The JSON's first fields are those of contract section 10; the others come after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.metrics import Estimate, Figures
from emotion2vec_ui.records.labelled import Form
from emotion2vec_ui.records.report import Model, rounded

SCHEMA = "emotion2vec_ui.evaluation/1"

SMALL_CLIPS = 50
"""A group with fewer recordings is small: a recall of 0.5 on 50 is uncertain by 0.14. Chosen."""

SMALL_SPEAKERS = 5
"""And one with fewer speakers: it tells of these people, not of the group. Chosen."""

GroupKind = Literal["speaker", "gender", "language", "corpus"]
GROUP_KINDS: tuple[GroupKind, ...] = ("corpus", "language", "gender", "speaker")


@dataclass(frozen=True)
class Group:
    """The recordings that have one value of a column.

    Attributes:
        name: the value.
        clips: recordings.
        speakers: among them, 0 where they are not known.
        uar: over the classes that the group has.
        wa: share of right answers.
        is_small: too few recordings or speakers to tell of the group.
    """

    name: str
    clips: int
    speakers: int
    uar: Estimate
    wa: Estimate
    is_small: bool


@dataclass(frozen=True)
class Gap:
    """How far apart a column's groups are, small ones left out.

    Attributes:
        best, worst: names of groups.
        difference: of their mean recalls, 0 to 1.
        classes: that all the groups have, which the recalls are of.
    """

    best: str
    worst: str
    difference: float
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Grouping:
    """One column's groups, the lowest UAR first."""

    kind: GroupKind
    groups: tuple[Group, ...]
    gap: Gap | None


@dataclass(frozen=True)
class Check:
    """One test with a threshold.

    Attributes:
        area: correctness, fairness or robustness.
        test: code of the test, such as `uar`, `recall`, `unchanged` or `change_uar`.
        subject: what it is of: a class, a group, a change or a noise; empty for everything.
        value: what was measured, to two decimals, as the framework compares it.
        threshold: that decides.
        clips: recordings that it was measured on.
        passed: whether the value is over the threshold; of fairness, not over it.
    """

    area: Literal["correctness", "fairness", "robustness"]
    test: str
    subject: str
    value: float
    threshold: float
    clips: int
    passed: bool


@dataclass(frozen=True)
class Published:
    """What emotion2vec's authors published of plus_large on a corpus, and the same figures here.

    Attributes:
        corpus: by their name.
        uar, wa, macro_f1: theirs, on four classes, 0 to 1.
        clips: recordings here with a label of these classes.
        here_uar, here_wa, here_macro_f1: of the model that answered, on those, with only the four
            classes allowed.
    """

    corpus: str
    uar: float
    wa: float
    macro_f1: float
    clips: int
    here_uar: float
    here_wa: float
    here_macro_f1: float


@dataclass(frozen=True)
class Left:
    """What is not judged.

    Attributes:
        labels: recordings by a label that stands for no emotion of the model's.
        errors: recordings by the code of the error that they could not be recognised with.
        segments: labels of parts of longer files.
        repeated: lines that named a file again.
    """

    labels: Mapping[str, int]
    errors: Mapping[str, int]
    segments: int
    repeated: int

    @property
    def recordings(self) -> int:
        """Labelled recordings that are not judged."""
        return sum(self.labels.values()) + sum(self.errors.values()) + self.segments


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
        name: of what was given.
        form: of the labels.
        timestamp: local time.
        model: that answered.
        hardware: that it ran on.
        names: how many recordings have which label, and the emotion it stands for.
        left: what is not judged.
        figures: over all recordings.
        groupings: of the columns with more than one value.
        checks: tests of correctness and fairness.
        robustness: tests of robustness; None where none was asked for.
        published: one for each corpus that the authors of plus_large tested it on.
        trained_on: corpora among the labels that the model learnt from, by their names.
        known_clips: recordings whose embedding is that of one that the model's reference was
            measured on; None where it has no reference.
        audio_s: length of the recordings.
    """

    name: str
    form: Form
    timestamp: str
    model: Model
    hardware: str
    names: Mapping[str, tuple[str, int]]
    left: Left
    figures: Figures
    groupings: tuple[Grouping, ...]
    checks: tuple[Check, ...]
    robustness: tuple[Check, ...] | None
    published: tuple[Published, ...]
    trained_on: tuple[str, ...]
    known_clips: int | None
    audio_s: float

    @property
    def caveats(self) -> tuple[str, ...]:
        """Codes of what limits the figures, the gravest first."""
        found = {
            "trained_on": bool(self.trained_on),
            "known_clips": bool(self.known_clips),
            "published_in_domain": bool(self.published) and not self.model.is_built_in,
            "no_speakers": not self.figures.speakers,
            "few_speakers": 0 < self.figures.speakers < SMALL_SPEAKERS,
            "few_clips": any(one.clips < SMALL_CLIPS // 5 for one in self.figures.classes),
        }
        return tuple(code for code, there in found.items() if there)


def to_dict(found: Evaluation) -> dict[str, Any]:
    """The JSON object; a confidence interval is `[low, high]`."""
    figures = found.figures
    classes = [one.emotion for one in figures.classes]
    content = {
        "model": found.model.id,
        "clips": figures.clips,
        "left_out": found.left.recordings,
        "uar": figures.uar.value,
        "uar_interval": _interval(figures.uar),
        "wa": figures.wa.value,
        "macro_f1": figures.macro_f1.value,
        "ece": figures.ece,
        "per_class": {one.emotion: one.recall for one in figures.classes},
        "confusion": {
            label: dict(zip(EMOTIONS, row, strict=True))
            for label, row in zip(classes, figures.confusion, strict=True)
        },
        "groups": {one.kind: [_group(group) for group in one.groups] for one in found.groupings},
        "robustness": None
        if found.robustness is None
        else [asdict(check) for check in found.robustness],
        "schema": SCHEMA,
        "timestamp": found.timestamp,
        "manifest": found.name,
        "form": found.form,
        "model_details": asdict(found.model),
        "hardware": found.hardware,
        "caveats": list(found.caveats),
        "trained_on": list(found.trained_on),
        "known_clips": found.known_clips,
        "audio_s": found.audio_s,
        "labels": {
            label: {"emotion": emotion, "clips": clips}
            for label, (emotion, clips) in found.names.items()
        },
        "left_out_by": asdict(found.left),
        "speakers": figures.speakers,
        "interval_by": "speaker" if figures.speakers else "clip",
        "wa_interval": _interval(figures.wa),
        "macro_f1_interval": _interval(figures.macro_f1),
        "uar_own_classes": figures.uar_own_classes.value,
        "uar_own_classes_interval": _interval(figures.uar_own_classes),
        "classes": [asdict(one) for one in figures.classes],
        "reliability": [asdict(one) for one in figures.bins],
        "risk_coverage": [asdict(one) for one in figures.risk],
        "aurc": figures.aurc,
        "gaps": {one.kind: asdict(one.gap) for one in found.groupings if one.gap},
        "checks": [asdict(check) for check in found.checks],
        "published": [asdict(one) for one in found.published],
    }
    plain: dict[str, Any] = rounded(_lists(content))
    return plain


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "clips": group.clips,
        "speakers": group.speakers,
        "uar": group.uar.value,
        "uar_interval": _interval(group.uar),
        "wa": group.wa.value,
        "small": group.is_small,
    }


def _interval(estimate: Estimate) -> list[float]:
    return [estimate.low, estimate.high]


def _lists(value: Any) -> Any:
    """JSON's own types: tuples and mappings as lists and objects."""
    if isinstance(value, Mapping):
        return {name: _lists(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(item) for item in value]
    return value
