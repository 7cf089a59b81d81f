"""Judges a model's answers by labels: everything between the rows of a run and an `Evaluation`."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.audio.small_changes import LONGEST_CUT
from emotion2vec_ui.batch.bulk import shown_path
from emotion2vec_ui.batch.manifest import Selection, tidy
from emotion2vec_ui.errors import InputError, ManifestError
from emotion2vec_ui.frames import SAMPLE_RATE_HZ
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.batching import Priority
from emotion2vec_ui.models.files import built_in_corpora
from emotion2vec_ui.models.loader import Loaded
from emotion2vec_ui.pipeline import stability
from emotion2vec_ui.pipeline.describe import model_facts
from emotion2vec_ui.pipeline.recogniser import ROBUSTNESS_S, Recogniser, Submitted
from emotion2vec_ui.pipeline.stability import Tried
from emotion2vec_ui.reading import metrics
from emotion2vec_ui.reading.metrics import Answers, Figures
from emotion2vec_ui.records import published
from emotion2vec_ui.records.evaluation import (
    GROUP_KINDS,
    SMALL_CLIPS,
    SMALL_SPEAKERS,
    Check,
    Evaluation,
    Gap,
    Group,
    Grouping,
    GroupKind,
    Left,
    Published,
)
from emotion2vec_ui.records.labelled import LabelledClip, LabelSet
from emotion2vec_ui.records.report import now_text
from emotion2vec_ui.records.rows import OK, Row
from emotion2vec_ui.texts import Phrase

CORRECT_ABOVE = 0.5
"""UAR, recall and precision of each class: the thresholds of audEERING's framework (see
`pipeline.stability`), `test/emotion/correctness_classification.yaml`."""

SEX_UAR_BELOW = 0.075
"""Difference of one sex's UAR from everybody's: `fairness_sex.yaml` there, made for two groups of
1,000 recordings each; with fewer, chance alone exceeds it more often."""

GAP_CLIPS = 5
"""Recordings of a class that a group must have for its recall to be compared. Chosen."""

SAME_COSINE = 0.999
"""Embeddings of one recording, one of them rounded to 8 bits, are at least as alike. Measured: of
300 recordings of the built-in model's corpora 79 are above 0.9995 and the others below 0.8."""


@dataclass(frozen=True)
class Judged:
    """One labelled recording with the row that the model gave it."""

    clip: LabelledClip
    row: Row


def selection(labels: LabelSet) -> Selection:
    """What `batch` recognises for these labels."""
    root = labels.root.resolve()
    return Selection(root, lambda _: (tidy(str(one.path), root) for one in labels.clips))


def match(labels: LabelSet, rows: Iterable[Row]) -> tuple[list[Judged], dict[LabelledClip, Row]]:
    """Labelled recordings that were recognised, and those that were not, with their rows."""
    root = labels.root.resolve()
    by_path = {shown_path(tidy(str(one.path), root)): one for one in labels.clips}
    judged, failed = [], {}
    for row in rows:
        clip = by_path.get(row.path)
        if clip is None:  # of an earlier manifest in the same journal
            continue
        if row.status == OK:
            judged.append(Judged(clip, row))
        else:
            failed[clip] = row
    return judged, failed


def require_labels(name: Path, labels: Sequence[str]) -> None:
    """Raises ManifestError where there is nothing to judge, or only one class."""
    if not labels:
        raise ManifestError(name=name, problem=Phrase("manifest.nothing_to_judge"))
    if len(set(labels)) < 2:
        raise ManifestError(name=name, problem=Phrase("manifest.one_label", label=labels[0]))


def evaluation(
    name: Path,
    labels: LabelSet,
    judged: Sequence[Judged],
    failed: Mapping[LabelledClip, Row],
    loaded: Loaded,
    robustness: tuple[Check, ...] | None,
) -> Evaluation:
    """All figures.

    Args:
        name: of what was given.
        labels: read from there.
        judged: recordings that were recognised; of two classes at least.
        failed: recordings that were not.
        loaded: the model of all rows.
        robustness: its tests, where they were made.
    """
    answers = _answers(judged)
    figures = metrics.figures(answers)
    groupings = tuple(_groupings(judged, answers))
    model = model_facts(loaded)
    return Evaluation(
        name=name.name,
        form=labels.form,
        timestamp=now_text(),
        model=model,
        hardware=hardware(model.device),
        names=labels.names,
        left=Left(
            labels=labels.left_out,
            errors=dict(Counter(row.status for row in failed.values()).most_common()),
            segments=labels.segments,
            repeated=labels.repeated,
        ),
        figures=figures,
        groupings=groupings,
        checks=(*_correctness(figures), *_fairness(judged, answers)),
        robustness=robustness,
        published=tuple(_published(judged, answers)),
        trained_on=_trained_on(labels) if loaded.is_built_in else (),
        known_clips=_known_clips(judged, loaded),
        audio_s=sum(one.row.duration_s or 0.0 for one in judged),
    )


def hardware(device: str) -> str:
    """What computed: the device, and of a CPU its name and number of cores."""
    if device != "cpu":
        return device
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:  # not Linux
        pass
    return f"cpu, {name}, {os.cpu_count()} cores"


def _answers(judged: Sequence[Judged]) -> Answers:
    speakers = [_speaker(one) for one in judged]
    # With one speaker, or some not known, nobody can be told apart.
    told_apart = all(speakers) and len(set(speakers)) > 1
    return Answers(
        truth=np.array([EMOTIONS.index(one.clip.truth) for one in judged]),
        scores=np.array([one.row.scores for one in judged]),
        speakers=speakers if told_apart else None,
    )


def _speaker(one: Judged) -> str:
    """A speaker's name, with the corpus's: "01" is somebody else in another."""
    clip = one.clip
    return f"{clip.corpus}/{clip.speaker}" if clip.corpus and clip.speaker else clip.speaker


# --- groups ---------------------------------------------------------------------------------------


def _value(one: Judged, kind: GroupKind) -> str:
    match kind:
        case "speaker":
            return _speaker(one)
        case "gender":
            return one.clip.gender
        case "language":
            return one.clip.language
        case "corpus":
            return one.clip.corpus


def _part(answers: Answers, use: np.ndarray) -> Answers:
    speakers = None
    if answers.speakers is not None:
        speakers = [answers.speakers[place] for place in np.flatnonzero(use).tolist()]
    return Answers(answers.truth[use], answers.scores[use], speakers)


def _groupings(judged: Sequence[Judged], answers: Answers) -> Iterable[Grouping]:
    for kind in GROUP_KINDS:
        values = np.array([_value(one, kind) for one in judged])
        names = [name for name in np.unique(values).tolist() if name]
        if len(names) < 2:
            continue
        groups = [_group(kind, name, _part(answers, values == name)) for name in names]
        fit = [group.name for group in groups if not group.is_small]
        yield Grouping(
            kind=kind,
            groups=tuple(sorted(groups, key=lambda group: (group.uar.value, group.name))),
            gap=_gap(answers, {name: values == name for name in fit}),
        )


def _group(kind: GroupKind, name: str, part: Answers) -> Group:
    speakers = 0 if part.speakers is None else len(set(part.speakers))
    # One speaker's recordings are drawn one by one: there is nobody else to draw.
    figures = metrics.figures(replace(part, speakers=None) if speakers < 2 else part)
    few_speakers = kind != "speaker" and 0 < speakers < SMALL_SPEAKERS
    return Group(
        name=name,
        clips=figures.clips,
        speakers=speakers,
        uar=figures.uar,
        wa=figures.wa,
        is_small=figures.clips < SMALL_CLIPS or few_speakers,
    )


def _gap(answers: Answers, members: Mapping[str, np.ndarray]) -> Gap | None:
    """The distance of the best from the worst group, over the classes that all of them have."""
    if len(members) < 2:
        return None
    shared = [
        one
        for one in range(len(EMOTIONS))
        if all((answers.truth[use] == one).sum() >= GAP_CLIPS for use in members.values())
    ]
    if not shared:
        return None
    means = {}
    for name, use in members.items():
        use = use & np.isin(answers.truth, shared)
        means[name] = metrics.uar(answers.truth[use], answers.answer[use])
    best, worst = max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name])
    classes = tuple(EMOTIONS[one] for one in shared)
    return Gap(best, worst, means[best] - means[worst], classes)


# --- tests with thresholds ------------------------------------------------------------------------


def _correctness(figures: Figures) -> Iterable[Check]:
    def above(test: str, subject: str, value: float, clips: int) -> Check:
        value = round(value, 2)
        passed = value > CORRECT_ABOVE
        return Check("correctness", test, subject, value, CORRECT_ABOVE, clips, passed)

    yield above("uar", "", figures.uar.value, figures.clips)
    for one in figures.classes:
        yield above("recall", one.emotion, one.recall, one.clips)
    for one in figures.classes:
        if one.precision is not None:
            yield above("precision", one.emotion, one.precision, one.clips)


def _fairness(judged: Sequence[Judged], answers: Answers) -> Iterable[Check]:
    genders = np.array([one.clip.gender for one in judged])
    if not all((genders == name).any() for name in ("female", "male")):
        return
    for name in ("female", "male"):
        use = genders == name
        # Everybody, on the classes that this sex has.
        alike = np.isin(answers.truth, np.unique(answers.truth[use]))
        everybody = metrics.uar(answers.truth[alike], answers.answer[alike])
        own = metrics.uar(answers.truth[use], answers.answer[use])
        value = round(abs(own - everybody), 3)
        yield Check(
            "fairness", "sex", name, value, SEX_UAR_BELOW, int(use.sum()), value < SEX_UAR_BELOW
        )


# --- what else is known ---------------------------------------------------------------------------


def _published(judged: Sequence[Judged], answers: Answers) -> Iterable[Published]:
    four = np.array([EMOTIONS.index(name) for name in published.FOUR_CLASSES])
    corpora = np.array([published.plain_name(one.clip.corpus) for one in judged])
    for name in np.unique(corpora).tolist():
        row = published.PLUS_LARGE.get(name)
        use = (corpora == name) & np.isin(answers.truth, four)
        if row is None or len(np.unique(answers.truth[use])) < 2:
            continue
        only = np.zeros_like(answers.scores[use])
        only[:, four] = answers.scores[use][:, four]
        here = metrics.figures(Answers(answers.truth[use], only, None))
        yield Published(
            corpus=row.corpus,
            uar=row.ua / 100,
            wa=row.wa / 100,
            macro_f1=row.f1 / 100,
            clips=here.clips,
            here_uar=here.uar.value,
            here_wa=here.wa.value,
            here_macro_f1=here.macro_f1.value,
        )


def _trained_on(labels: LabelSet) -> tuple[str, ...]:
    """Corpora of the built-in model that the labels name, as their corpus or as a folder.

    Folders above the root are not looked at: somebody's name may be that of a corpus.
    """
    root = labels.root.resolve()
    names = {root.name}
    for clip in labels.clips:
        path = PurePath(tidy(str(clip.path), root))
        names.add(clip.corpus)
        if not path.is_absolute():
            names.update(path.parts[:-1])
    plain = {published.plain_name(name) for name in names}
    return tuple(name for name in built_in_corpora() if published.plain_name(name) in plain)


def _known_clips(judged: Sequence[Judged], loaded: Loaded) -> int | None:
    """Recordings that are among those that the model's reference was made from."""
    if loaded.reference is None:
        return None
    return sum(
        float((loaded.reference.embeddings @ _unit(one.row.embedding)).max()) >= SAME_COSINE
        for one in judged
        if one.row.embedding is not None
    )


def _unit(embedding: np.ndarray) -> np.ndarray:
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)


# --- robustness -----------------------------------------------------------------------------------


def sample(judged: Sequence[Judged], count: int, seed: int) -> list[Judged]:
    """Recordings for the robustness tests: the classes in turn, each in random order."""
    rng = np.random.default_rng(seed)
    shortest_s = 2 * LONGEST_CUT / SAMPLE_RATE_HZ
    fit = [one for one in judged if (one.row.duration_s or 0.0) >= shortest_s]
    order = [fit[place] for place in rng.permutation(len(fit)).tolist()]
    turn: Counter[str] = Counter()
    ranked = []
    for one in order:
        ranked.append((turn[one.clip.truth], one))
        turn[one.clip.truth] += 1
    ranked.sort(key=lambda item: item[0])
    return [one for _, one in ranked[:count]]


def robustness(
    recogniser: Recogniser,
    loaded: Loaded,
    chosen: Sequence[Judged],
    *,
    seed: int,
    on_progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> tuple[Check, ...]:
    """Recognises some recordings under every condition of `pipeline.stability`.

    Args:
        recogniser: whose steps are used.
        loaded: the model.
        chosen: the recordings; of each its first 30 s are used.
        seed: of noises and drawn settings.
        on_progress: called with the number of recordings done.
        cancelled: ends the work.

    Raises:
        Cancelled: `cancelled` said so.
        EmotionError: the model cannot go on.
    """
    tried: list[Tried] = []
    waiting: list[tuple[int, list[Submitted]]] = []
    caller = object()

    def finish() -> None:
        truth, jobs = waiting.pop(0)
        answers = (recogniser.answer(job, cancelled).scores.argmax() for job in jobs)
        tried.append(Tried(truth, tuple(int(answer) for answer in answers)))

    for done, one in enumerate(chosen):
        on_progress(done)
        try:
            clip = recogniser.decode(one.clip.path, one.clip.path.name)
        except InputError:  # it is gone since it was recognised
            continue
        samples = clip.samples[: int(ROBUSTNESS_S * SAMPLE_RATE_HZ)]
        jobs = [
            recogniser.submit(loaded, version, frames=False, priority=Priority.BULK, group=caller)
            for version in _clips(clip, stability.versions(samples, seed + done))
        ]
        waiting.append((EMOTIONS.index(one.clip.truth), jobs))
        # The next recording is decoded while the model works on this one.
        if len(waiting) > 1:
            finish()
    while waiting:
        finish()
    on_progress(len(chosen))
    return stability.checks(tried) if tried else ()


def _clips(clip: Clip, versions: Sequence[np.ndarray]) -> list[Clip]:
    return [replace(clip, samples=samples) for samples in versions]
