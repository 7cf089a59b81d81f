"""Calibrates a model on the user's own labelled recordings: reads the manifest, asks the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emotion2vec_ui.errors import InputError, ManifestError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.batching import Batcher
from emotion2vec_ui.reading import calibration
from emotion2vec_ui.records import manifests
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.audio.load import Clip
    from emotion2vec_ui.models.engine import Prediction
    from emotion2vec_ui.models.loader import Loaded

MIN_CLIPS = 100
"""The 95th percentile of distances, which the temperature grows by, has five recordings beyond it
then. Chosen."""


@dataclass(frozen=True)
class Labelled:
    """One line of a manifest that can be used.

    Attributes:
        path: of the recording.
        label: one of `labels.EMOTIONS`.
        speaker: as written; empty where it is not known.
    """

    path: Path
    label: str
    speaker: str


@dataclass(frozen=True)
class Manifest:
    """The lines of a manifest.

    Attributes:
        clips: the usable ones.
        left_out: how many lines have which label that the model does not know.
    """

    clips: tuple[Labelled, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and on what.

    Attributes:
        fitted: the reference and what it changes.
        counts: recordings of each label that were used.
        n_speakers: groups that were kept apart; 0 where each recording was its own group.
    """

    fitted: calibration.Fitted
    counts: Mapping[str, int]
    n_speakers: int


def read_manifest(path: Path, *, path_column: str, label_column: str) -> Manifest:
    """Reads a CSV in UTF-8 with a header; paths in it are relative to its folder.

    A column `speaker` is used where there is one. Labels are English, in any case.

    Raises:
        ManifestError: it cannot be read, or lacks a column.
    """
    clips: list[Labelled] = []
    left_out: Counter[str] = Counter()
    for row in manifests.read(path, (path_column, label_column)):
        label = row[label_column].lower()
        if label not in EMOTIONS:
            left_out[label] += 1
            continue
        clips.append(Labelled(path.parent / row[path_column], label, row.get("speaker", "")))
    return Manifest(tuple(clips), dict(left_out))


def run(
    name: Path,
    clips: Sequence[Labelled],
    loaded: Loaded,
    decode: Callable[[Path, str], Clip],
    *,
    on_unusable: Callable[[Path, InputError], None],
    on_progress: Callable[[int, int], None],
) -> Calibration:
    """Asks the model about every recording and fits its reference.

    Args:
        name: of the manifest, for errors.
        clips: its usable lines.
        loaded: the model.
        decode: path and name in, Clip out.
        on_unusable: called with each recording that is left out, and why.
        on_progress: called with the number of recordings done and of all.

    Raises:
        ManifestError: too few recordings can be used, or all have one label.
    """
    _require_enough(name, [clip.label for clip in clips])
    heard: list[tuple[Labelled, Prediction]] = []
    batcher = Batcher()
    try:
        for done, clip in enumerate(clips):
            on_progress(done, len(clips))
            try:
                samples = decode(clip.path, clip.path.name).samples
            except InputError as error:
                on_unusable(clip.path, error)
                continue
            heard.append((clip, batcher.submit(loaded, samples).future.result()))
        on_progress(len(clips), len(clips))
    finally:
        batcher.stop(timeout_s=1.0)
    labels = [clip.label for clip, _ in heard]
    _require_enough(name, labels)
    speakers = np.array([clip.speaker for clip, _ in heard])
    # With one speaker, or some not known, nobody can be kept apart from himself.
    grouped = len(set(speakers)) > 1 and "" not in speakers
    answers = calibration.Answers(
        logits=np.stack([prediction.logits for _, prediction in heard]),
        embeddings=np.stack([prediction.embedding for _, prediction in heard]),
        truth=np.array([EMOTIONS.index(label) for label in labels]),
        groups=speakers if grouped else np.arange(len(heard)),
    )
    return Calibration(
        fitted=calibration.fit(answers, loaded.weights_sha256),
        counts=dict(sorted(Counter(labels).items())),
        n_speakers=len(set(speakers)) if grouped else 0,
    )


def _require_enough(name: Path, labels: Sequence[str]) -> None:
    """Raises ManifestError where these recordings are too few, or all of one label."""
    if len(labels) < MIN_CLIPS:
        problem = Phrase("manifest.too_few", count=len(labels), minimum=MIN_CLIPS)
        raise ManifestError(name=name, problem=problem)
    if len(set(labels)) < 2:
        raise ManifestError(name=name, problem=Phrase("manifest.one_label", label=labels[0]))
