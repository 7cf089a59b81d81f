"""The recordings that sub-classes are trained on: read from a manifest, heard, and looked over."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.errors import AudioUnreadable, InputError, ManifestError, SubclassRefused
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.lab.embedding_cache import EmbeddingCache, Heard
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.batching import Priority
from emotion2vec_ui.pipeline.recogniser import Cancelled, Recogniser, Submitted
from emotion2vec_ui.reading import familiarity
from emotion2vec_ui.records import manifests
from emotion2vec_ui.records.subclasses import (
    MAX_LABEL_CHARACTERS,
    Coverage,
    Durations,
    Gap,
    LeftOut,
)
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded

ENOUGH_SAMPLES, ENOUGH_SPEAKERS = 200, 5
"""Of each sub-class: what the guide of the original WebUI asks for."""

FEWEST_SAMPLES, FEWEST_SPEAKERS = 10, 3
"""Of each sub-class, whatever is allowed. With three speakers one can be held back to judge,
another to choose the regularisation, and one is left to train on."""

NONE = "none"
"""What a result calls the part that no sub-class has."""

NEAR_COPY_ABOVE = 0.9995
"""Cosine of two embeddings from which on a recording is taken for a copy of the other. With
compact, copies as WAV or FLAC and at half the level have at least 0.9997, different recordings of
RAVDESS at most 0.80; lossy copies (0.92 to 0.99) are not found, for other models' embeddings lie
closer."""

AHEAD = 4
"""Recordings decoded while the model works on those before."""

UNEQUAL_BELOW = 1 / 3
POOR_ABOVE = 1 / 3


@dataclass(frozen=True)
class Listed:
    """A line of a manifest.

    Attributes:
        name: the path as written.
        path: of the recording.
        label: its sub-class.
        speaker, gender, age: as written; empty where not known.
    """

    name: str
    path: Path
    label: str
    speaker: str
    gender: str
    age: str


@dataclass(frozen=True)
class Sample:
    """A recording that was heard.

    Attributes:
        listed: its line.
        sha256: of its bytes.
        heard: its embedding, duration and quality.
    """

    listed: Listed
    sha256: str
    heard: Heard


@dataclass(frozen=True)
class Samples:
    """What training has to work with.

    Attributes:
        used: the recordings.
        left_out: lines of the manifest that are not among them.
        coverage: by sub-class, in order of their names.
    """

    used: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    coverage: Mapping[str, Coverage]

    @property
    def small(self) -> bool:
        """Whether a sub-class has too little to be relied on."""
        gaps = {gap for one in self.coverage.values() for gap in one.gaps}
        return bool(gaps & {"few_samples", "few_speakers"})

    @property
    def data_sha256(self) -> str:
        """Of the recordings' hashes and labels, in no order."""
        lines = sorted(f"{one.sha256} {one.listed.label}" for one in self.used)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# --- the manifest ---------------------------------------------------------------------------------


def read_manifest(path: Path, find: Callable[[str], Path]) -> list[Listed]:
    """Reads the lines of a manifest: columns path, label, speaker; gender and age where known.

    Args:
        path: of the CSV.
        find: where the recording of a line is; it need not be there.

    Raises:
        ManifestError: it cannot be read, lacks a column or has no lines.
        SubclassRefused: a label cannot name a sub-class.
    """
    listed = [
        Listed(
            name=row["path"],
            path=find(row["path"]),
            label=unicodedata.normalize("NFC", row["label"]),
            speaker=row["speaker"],
            gender=row.get("gender", "").lower(),
            age=row.get("age", ""),
        )
        for row in manifests.read(path, ("path", "label", "speaker"))
        if row["path"]
    ]
    if not listed:
        raise ManifestError(name=path, problem=Phrase("subclass.no_lines"))
    for label in {one.label for one in listed}:
        if label.lower() in EMOTIONS:
            raise SubclassRefused(problem=Phrase("subclass.label_is_base", label=label))
        wrong = not label.isprintable() or len(label) > MAX_LABEL_CHARACTERS
        if not label or wrong or label.lower() == NONE:
            raise SubclassRefused(problem=Phrase("subclass.bad_label", label=repr(label)[:60]))
    return listed


def require_enough(
    name: Path, lines: Iterable[tuple[str, str]], *, allow_small: bool, problems: int = 0
) -> None:
    """Refuses what could not be judged, and without `allow_small` what could not be relied on.

    Args:
        name: of the manifest, for errors.
        lines: label and speaker of each recording.
        allow_small: whether a small set is wanted nevertheless.
        problems: recordings that were left out so far.

    Raises:
        ManifestError: one class, one speaker, or no speakers at all.
        SubclassRefused: too few recordings or speakers.
    """
    given = list(lines)
    labels = Counter(label for label, _ in given)
    if any(given) and not any(speaker for _, speaker in given):
        raise ManifestError(name=name, problem=Phrase("subclass.no_speakers"))
    if len(labels) < 2:
        found = ", ".join(labels) or "-"
        problem = Phrase("subclass.one_class", found=found, left_out=problems)
        raise ManifestError(name=name, problem=problem)
    for label, count in sorted(labels.items()):
        speakers = len({speaker for one, speaker in given if one == label and speaker})
        facts = {"label": label, "samples": count, "speakers": speakers, "left_out": problems}
        if count < FEWEST_SAMPLES or speakers < FEWEST_SPEAKERS:
            bounds = {"least_samples": FEWEST_SAMPLES, "least_speakers": FEWEST_SPEAKERS}
            raise SubclassRefused(problem=Phrase("subclass.far_too_small", **facts, **bounds))
        if not allow_small and (count < ENOUGH_SAMPLES or speakers < ENOUGH_SPEAKERS):
            bounds = {"least_samples": ENOUGH_SAMPLES, "least_speakers": ENOUGH_SPEAKERS}
            raise SubclassRefused(problem=Phrase("subclass.too_small", **facts, **bounds))


# --- hearing --------------------------------------------------------------------------------------


def hear(
    listed: Sequence[Listed],
    recogniser: Recogniser,
    loaded: Loaded,
    cache: EmbeddingCache,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Samples:
    """Has the model hear every recording that is not in the cache, and looks over them all.

    Args:
        listed: the lines of the manifest.
        recogniser: whose decoder and queue are used; others' requests come first.
        loaded: the model.
        cache: of that model.
        on_progress: called with the number of recordings done and of all.
        cancelled: asked now and then whether to stop.

    Raises:
        Cancelled: `cancelled` said so; what was heard is in the cache.
        SubclassRefused: one recording has two labels.
        EmotionError: the model or the disk failed.
    """
    found: list[Sample] = []
    left_out: list[LeftOut] = []
    flying: deque[tuple[Listed, str, Submitted]] = deque()
    group = object()
    done = 0

    def finish() -> None:
        nonlocal done
        one, sha256, submitted = flying.popleft()
        prediction = recogniser.answer(submitted, cancelled)
        clip = submitted.clip
        heard = Heard(prediction.embedding, clip.duration_s, clip.quality.verdict)
        cache.put(sha256, heard)
        found.append(Sample(one, sha256, heard))
        done += 1

    try:
        for one in listed:
            on_progress(done, len(listed))
            if cancelled():
                raise Cancelled
            if not one.speaker:
                left_out.append(LeftOut(one.name, "no_speaker", ""))
                done += 1
                continue
            try:
                sha256 = _sha256(one.path)
                if (kept := cache.get(sha256)) is not None:
                    found.append(Sample(one, sha256, kept))
                    done += 1
                    continue
                clip = recogniser.decode(one.path, one.path.name)
            except InputError as error:
                left_out.append(LeftOut(one.name, "unusable", error.code))
                done += 1
                continue
            submitted = recogniser.submit(
                loaded, clip, frames=False, priority=Priority.BULK, group=group
            )
            flying.append((one, sha256, submitted))
            if len(flying) > AHEAD:
                finish()
        while flying:
            on_progress(done, len(listed))
            finish()
    finally:
        for _, _, submitted in flying:
            submitted.job.cancel()
    on_progress(len(listed), len(listed))
    place = {id(one): number for number, one in enumerate(listed)}
    found.sort(key=lambda sample: place[id(sample.listed)])
    used, copies = _without_copies(found)
    return Samples(used, (*left_out, *copies), _coverage(used, copies, listed))


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        problem = error.strerror or "I/O error"
        raise AudioUnreadable(name=path.name, problem=problem) from error


def _without_copies(found: Sequence[Sample]) -> tuple[tuple[Sample, ...], list[LeftOut]]:
    """The samples, each recording once; later copies, by bytes or by embedding, are left out.

    Raises:
        SubclassRefused: a recording and its copy have different labels.
    """
    used: list[Sample] = []
    left_out: list[LeftOut] = []
    by_bytes: dict[str, Sample] = {}
    unit = np.zeros((0, 0), np.float32)
    for sample in found:
        embedding = sample.heard.embedding
        if not np.isfinite(embedding).all() or not embedding.any():
            left_out.append(LeftOut(sample.listed.name, "unusable", "not_finite"))
            continue
        one = familiarity.unit_rows(embedding[None])
        if not len(unit):
            unit = np.zeros((len(found), len(embedding)), np.float32)
        original = by_bytes.get(sample.sha256)
        reason: str = "copy"
        if original is None and used:
            cosines = unit[: len(used)] @ one[0]
            if cosines.max() >= NEAR_COPY_ABOVE:
                original, reason = used[int(cosines.argmax())], "near_copy"
        if original is not None:
            if original.listed.label != sample.listed.label:
                facts = {
                    "path": sample.listed.name,
                    "other": original.listed.name,
                    "label": sample.listed.label,
                    "other_label": original.listed.label,
                }
                raise SubclassRefused(problem=Phrase("subclass.two_labels", **facts))
            kind = "copy" if reason == "copy" else "near_copy"
            left_out.append(
                LeftOut(sample.listed.name, kind, original.listed.name)  # type: ignore[arg-type]
            )
            continue
        unit[len(used)] = one[0]
        by_bytes[sample.sha256] = sample
        used.append(sample)
    return tuple(used), left_out


# --- looking over ---------------------------------------------------------------------------------


def _coverage(
    used: Sequence[Sample], copies: Sequence[LeftOut], listed: Sequence[Listed]
) -> dict[str, Coverage]:
    label_of = {one.name: one.label for one in listed}
    labels = sorted({one.listed.label for one in used})
    counts = Counter(one.listed.label for one in used)
    return {
        label: _covered(
            [one for one in used if one.listed.label == label],
            [one.reason for one in copies if label_of[one.path] == label],
            largest=max(counts.values()),
        )
        for label in labels
    }


def _covered(used: Sequence[Sample], copies: Sequence[str], *, largest: int) -> Coverage:
    durations = np.array([one.heard.duration_s for one in used])
    quality = Counter(one.heard.quality for one in used)
    genders = Counter(one.listed.gender or "unknown" for one in used)
    n_speakers = len({one.listed.speaker for one in used})
    gaps: list[Gap] = []
    if len(used) < ENOUGH_SAMPLES:
        gaps.append("few_samples")
    if n_speakers < ENOUGH_SPEAKERS:
        gaps.append("few_speakers")
    if len(genders) == 1 and "unknown" not in genders:
        gaps.append("one_gender")
    if len(used) < UNEQUAL_BELOW * largest:
        gaps.append("unequal")
    if quality["poor"] > POOR_ABOVE * len(used):
        gaps.append("poor_quality")
    return Coverage(
        samples=len(used),
        speakers=n_speakers,
        genders=dict(sorted(genders.items())),
        ages=dict(sorted(Counter(_decade(one.listed.age) for one in used).items())),
        duration_s=Durations(
            min=round(float(durations.min()), 3),
            median=round(float(np.median(durations)), 3),
            max=round(float(durations.max()), 3),
            total=round(float(durations.sum()), 3),
        ),
        quality={verdict: quality[verdict] for verdict in ("good", "fair", "poor")},
        copies=sum(one == "copy" for one in copies),
        near_copies=sum(one == "near_copy" for one in copies),
        gaps=tuple(gaps),
    )


def _decade(age: str) -> str:
    """An age in years by its ten years; any other word for it as it is."""
    try:
        years = int(float(age))
    except (ValueError, OverflowError):
        return age or "unknown"
    return f"{years // 10 * 10}-{years // 10 * 10 + 9}"
