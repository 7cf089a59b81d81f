"""How well outliers are found: `python -m benchmarks.outliers --data DIR`.

Among 1,000 recordings of speech stand 100 that are none, or drowned: noises, tones, chords as of
music, and speech under as much noise (0 dB). Writes `benchmarks/results/outliers.md`: the area
under the ROC curve of the score, all together and by kind.

DIR has a `manifest.csv` with the columns path and speaker. The settings of `lab/outliers` were
chosen on half of the speakers (`--half first`) and noises of other seeds; the figures are of the
other half.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from emotion2vec_ui.audio import damage
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.lab import outliers
from emotion2vec_ui.models import files, norms
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.settings import Settings

RESULT = Path(__file__).parent / "results" / "outliers.md"

RATE_HZ = 16_000
SPEECH, PLANTED = 1000, 100
DURATIONS_S = (1.5, 5.0)


def choose(data: Path, half: str) -> list[Path]:
    """Recordings of half of the speakers, mixed."""
    with (data / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    speakers = sorted({row["speaker"] for row in rows})
    wanted = set(speakers[half == "second" :: 2])
    paths = [data / row["path"] for row in rows if row["speaker"] in wanted]
    random.Random(0).shuffle(paths)
    return paths


def noise(kind: str, n: int, dice: np.random.Generator) -> np.ndarray:
    """float32 (n,): noise whose power falls with the frequency as the kind says."""
    exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
    spectrum = np.fft.rfft(dice.standard_normal(n))
    spectrum /= np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20.0) ** exponent
    x = np.fft.irfft(spectrum, n)
    return np.asarray(0.1 * x / x.std(), np.float32)


def clicks(n: int, dice: np.random.Generator) -> np.ndarray:
    """float32 (n,): decaying clicks at random moments, as of tools or keys."""
    x = np.zeros(n)
    for at in dice.integers(0, n, n // 3000):
        length = min(800, n - at)
        x[at : at + length] += dice.standard_normal(length) * np.exp(-np.arange(length) / 90)
    return np.asarray(0.2 * x + 0.001 * dice.standard_normal(n), np.float32)


def tones(n: int, dice: np.random.Generator) -> np.ndarray:
    """float32 (n,): a steady sine, or one that glides."""
    low, high = np.exp(dice.uniform(np.log(100), np.log(4000), 2))
    hz = np.linspace(low, high if dice.random() < 0.5 else low, n)
    return np.asarray(0.25 * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ), np.float32)


def music(n: int, dice: np.random.Generator) -> np.ndarray:
    """float32 (n,): plucked chords, a new one each beat; harmonics fall as those of a string."""
    x = np.zeros(n)
    beat = int(RATE_HZ * dice.uniform(0.25, 0.6))
    root_hz = dice.uniform(110, 330)
    for at in range(0, n, beat):
        length = min(2 * beat, n - at)
        time_s = np.arange(length) / RATE_HZ
        chord_hz = root_hz * 2 ** (dice.choice([0, 2, 4, 5, 7, 9]) / 12)
        for interval in (0, dice.choice([3, 4]), 7):
            pitch_hz = chord_hz * 2 ** (interval / 12)
            for k in range(1, 8):
                decay = np.exp(-time_s * (2 + k))
                x[at : at + length] += np.sin(2 * np.pi * k * pitch_hz * time_s) * decay / k
    return np.asarray(0.25 * x / np.abs(x).max(), np.float32)


def planted(speech: Iterator[Path], count: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """What stands apart: its kind and its samples."""
    dice = np.random.default_rng(seed)
    drowned = damage.Condition("fan_0", "fan", 0.0)
    for number in range(count):
        n = int(RATE_HZ * dice.uniform(*DURATIONS_S))
        kind = ("noise", "clicks", "tone", "music", "speech at 0 dB")[number % 5]
        if kind == "noise":
            yield kind, noise(str(dice.choice(["white", "pink", "brown"])), n, dice)
        elif kind == "clicks":
            yield kind, clicks(n, dice)
        elif kind == "tone":
            yield kind, tones(n, dice)
        elif kind == "music":
            yield kind, music(n, dice)
        else:
            yield kind, damage.damaged(load(next(speech)).samples, drowned, seed + number)


def embeddings(data: Path, half: str) -> tuple[np.ndarray, list[str]]:
    """The utterance embeddings of compact, float32 (n, dim), and what each recording is."""
    paths = iter(choose(data, half))
    settings = Settings(model="compact", device="cpu")
    holder = ModelHolder(settings)
    recogniser = Recogniser(settings, holder, lambda path, name: load(path, name=name))
    holder.start()
    kinds, vectors = [], []
    try:
        for _ in range(SPEECH):
            kinds.append("speech")
            vectors.append(recogniser.embed(next(paths)).vector)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "planted.wav"
            for kind, samples in planted(paths, PLANTED, 1 if half == "first" else 2):
                soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
                kinds.append(kind)
                vectors.append(recogniser.embed(path).vector)
    finally:
        recogniser.stop(1.0)
    return np.stack(vectors), kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--half", choices=("first", "second"), default="second")
    options = parser.parse_args()
    vectors, kinds = embeddings(options.data, options.half)
    lines = report(vectors.astype(np.float16), np.array(kinds))
    if options.half == "second":
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def report(vectors: np.ndarray, kinds: np.ndarray) -> list[str]:
    """The table in Markdown."""
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

    norm_range = norms.norm_range(files.built_in(), None)
    apart, lengths = outliers.distances(vectors)
    ours = outliers.combined(outliers.far_scores(apart), lengths, norm_range)
    n = round(outliers.NEIGHBOUR_SHARE * len(vectors))
    every = vectors.astype(np.float32)
    cosine, _ = NearestNeighbors(n_neighbors=n + 1, metric="cosine").fit(every).kneighbors(every)
    factor = LocalOutlierFactor(n_neighbors=n, metric="cosine").fit(every)
    scores = {
        "**the score**": ours,
        "its distances alone (Euclidean)": apart,
        "its norms alone": outliers.combined(np.zeros(len(vectors)), lengths, norm_range),
        "cosine distances instead": cosine[:, 1:].mean(axis=1),
        "local outlier factor instead (cosine)": -factor.negative_outlier_factor_,
    }
    is_apart = kinds != "speech"
    planted_kinds = sorted(set(kinds[is_apart]))
    lines = [
        "# Outliers",
        "",
        f"{(~is_apart).sum():,} recordings of acted speech (EMO-DB, nEMO, RAVDESS) and, among "
        f"them, {is_apart.sum()} that are none or are drowned; embeddings of compact. Area under "
        "the ROC curve; below 0.5, what is planted counts as less apart than speech.",
        "",
        "| | all | " + " | ".join(planted_kinds) + " |",
        "|---|---|" + "---|" * len(planted_kinds),
    ]
    for name, score in scores.items():
        cells = [f"{roc_auc_score(is_apart, score):.3f}"]
        for kind in planted_kinds:
            some = (kinds == kind) | ~is_apart
            cells.append(f"{roc_auc_score(is_apart[some], score[some]):.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    listed = ours >= outliers.APART_FROM
    return [
        *lines,
        "",
        f"Listed (score from 1 on): {listed[is_apart].mean():.0%} of what was planted, "
        f"{listed[~is_apart].mean():.1%} of the speech.",
        "",
        "Settings were chosen on other speakers and other noises; these were looked at once.",
        "",
        "Made by `python -m benchmarks.outliers --data DIR`.",
    ]


if __name__ == "__main__":
    main()
