"""What sub-classes find in real speech, on held-out speakers, and how long training takes.

    python -m benchmarks.subclass DATA [--outputs DIR]

Writes `benchmarks/results/subclass.md`. DATA holds a `manifest.csv` with the columns path, corpus,
speaker, gender, emotion and original_label, of which the RAVDESS recordings are used: their acted
intensity (normal, strong) divides angry, fearful and happy, and calm is told from neutral. Each is
trained as a user would, by `lab.subclass.train` with the built-in model, then again with shuffled
labels. Given outputs keep the embeddings for the next run.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.synthetic_audio import RATE_HZ, write_soundfile  # noqa: E402
from emotion2vec_ui.lab import fit_head, samples, subclass  # noqa: E402
from emotion2vec_ui.lab.embedding_cache import EmbeddingCache  # noqa: E402
from emotion2vec_ui.lab.samples import Sample  # noqa: E402
from emotion2vec_ui.models.machine import describe  # noqa: E402
from emotion2vec_ui.pipeline import standalone  # noqa: E402
from emotion2vec_ui.pipeline.recogniser import Recogniser  # noqa: E402
from emotion2vec_ui.reading.familiarity import unit_rows  # noqa: E402
from emotion2vec_ui.reading.subclass_head import shares  # noqa: E402
from emotion2vec_ui.records import subclasses  # noqa: E402
from emotion2vec_ui.records.subclasses import Card  # noqa: E402
from emotion2vec_ui.settings import Settings, prepare_torch  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "subclass.md"

SHUFFLES = 20
TIMED_SAMPLES = 400

INTENSITIES = ("normal", "strong")
TASKS = (
    ("angry-intensity", "angry", {f"angry/{one}": one for one in INTENSITIES}),
    ("fearful-intensity", "fearful", {f"fearful/{one}": one for one in INTENSITIES}),
    ("happy-intensity", "happy", {f"happy/{one}": one for one in INTENSITIES}),
    (
        "calm",
        "neutral",
        {"calm/normal": "calm", "calm/strong": "calm", "neutral/normal": "plain"},
    ),
)
"""Name, base, and the sub-class of each `original_label`."""

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of manifest.csv")
    parser.add_argument("--outputs", type=Path, help="keeps embeddings; default: temporary")
    options = parser.parse_args()
    prepare_torch()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(model="compact", device="cpu", outputs=options.outputs or Path(folder))
        with standalone.recogniser(settings) as recogniser:
            lines = measure(options.data, Path(folder), recogniser)
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


def measure(data: Path, folder: Path, recogniser: Recogniser) -> list[str]:
    with (data / "manifest.csv").open(encoding="utf-8") as file:
        everything = list(csv.DictReader(file))
    rows = [row for row in everything if row["corpus"] == "ravdess"]
    lines = [
        "# Sub-classes",
        "",
        f"Model compact; {describe(('numpy', 'scikit-learn'))}",
        "",
        "RAVDESS, actors; each speaker judged by a head that was not trained on them. The model "
        "below it learned the nine emotions, but neither intensity nor calm, from these speakers "
        "too: with new ones all figures may be lower. Intervals: 95 %, drawing whole speakers.",
        "",
        "| set | recordings | speakers | UAR | interval | chance | LDA | nearest centroid | ECE "
        "| more samples | C |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    heard: dict[str, list[Sample]] = {}
    for name, base, labels in TASKS:
        chosen = [row | {"label": labels[row["original_label"]]} for row in rows
                  if row["original_label"] in labels]  # fmt: skip
        card = train(manifest(folder, name, data, chosen), base, name, data, recogniser)
        heard[name] = list(used(folder / f"{name}.csv", data, recogniser))
        lines.append(card_row(card))
    lines += ["", "Labels shuffled, " + f"{SHUFFLES} times each:", ""]
    lines += ["| set | mean UAR | lowest | highest | intervals that include chance |"]
    lines += ["|---|---|---|---|---|"]
    for name, found in heard.items():
        lines.append(shuffled_row(name, found))
    lines += none_lines(everything, data, folder, heard["angry-intensity"], recogniser)
    lines += time_lines(rows, data, folder, recogniser)
    return lines


def manifest(folder: Path, name: str, data: Path, rows: Sequence[Row]) -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("path", "label", "speaker", "gender"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def train(path: Path, base: str, name: str, data: Path, recogniser: Recogniser) -> Card:
    wanted = subclass.Wanted((path,), base, name, allow_small=True, licence="CC BY-NC-SA 4.0")
    return subclass.train(
        wanted,
        lambda _, one: data / one,
        recogniser,
        lambda: recogniser.holder.get(300.0),
        on_progress=lambda step, done, total: print(
            f"\r{name} {step} {done} / {total}   ", end="", file=sys.stderr
        ),
    )


def used(path: Path, data: Path, recogniser: Recogniser) -> tuple[Sample, ...]:
    """The samples of a manifest that was trained on: all in the cache."""
    loaded = recogniser.holder.get(300.0)
    cache = EmbeddingCache(
        recogniser.settings.outputs / subclasses.FOLDER_NAME / subclass.CACHE_NAME,
        loaded.weights_sha256,
        loaded.network.precision,
    )
    listed = samples.read_manifest(path, lambda one: data / one)
    return samples.hear(listed, recogniser, loaded, cache).used


def card_row(card: Card) -> str:
    low, high = card.uar_interval
    others = [f"{one.uar:.3f}" for one in card.others.values()]
    facts = [
        f"{card.name}: {', '.join(card.classes)}",
        str(card.samples),
        str(card.speakers),
        f"**{card.uar:.3f}**",
        f"{low:.3f} to {high:.3f}",
        f"{card.chance:.2f}",
        *others,
        f"{card.ece:.3f}",
        card.more_samples,
        f"{card.regularisation:g}",
    ]
    return "| " + " | ".join(facts) + " |"


def arrays(found: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    classes = sorted({one.listed.label for one in found})
    return (
        np.stack([one.heard.embedding for one in found]),
        np.array([classes.index(one.listed.label) for one in found]),
        np.array([one.listed.speaker for one in found]),
        classes,
    )


def shuffled_row(name: str, found: Sequence[Sample]) -> str:
    embeddings, truth, speakers, classes = arrays(found)
    values, includes = [], 0
    for seed in range(SHUFFLES):
        shuffled = np.random.default_rng(seed).permutation(truth)
        judged = fit_head.fit(embeddings, shuffled, speakers, classes, seed=seed).judged
        values.append(judged.uar)
        low, high = judged.uar_interval
        includes += low <= 1 / len(classes) <= high
        print(f"\r{name} shuffled {seed + 1} / {SHUFFLES}   ", end="", file=sys.stderr)
    facts = [name, f"{np.mean(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}"]
    return "| " + " | ".join([*facts, f"{includes} of {SHUFFLES}"]) + " |"


def none_lines(
    everything: Sequence[Row],
    data: Path,
    folder: Path,
    found: Sequence[Sample],
    recogniser: Recogniser,
) -> list[str]:
    """How much of what is told to be none of the sub-classes."""
    embeddings, truth, speakers, classes = arrays(found)
    told = []
    for one in np.unique(speakers):
        train_on = speakers != one
        head = fit_head.head_of(embeddings[train_on], truth[train_on], speakers[train_on], classes)[
            0
        ]
        told += [shares(each, head).none for each in embeddings[~train_on]]
        print(f"\rnone, without {one}   ", end="", file=sys.stderr)
    head, _ = fit_head.head_of(embeddings, truth, speakers, classes)
    rng = np.random.default_rng(0)

    def share(waves: Sequence[Path]) -> float:
        loaded = recogniser.holder.get(300.0)
        none = []
        for wave in waves:
            clip = recogniser.decode(wave, wave.name)
            answer = recogniser.answer(recogniser.submit(loaded, clip, frames=False))
            none.append(shares(answer.embedding, head).none)
        return float(np.mean(none))

    noises, tones = [], []
    for number in range(50):
        noise = (0.1 * rng.normal(size=3 * RATE_HZ)).astype(np.float32)
        noises.append(write_soundfile(folder / f"n{number}.wav", noise, RATE_HZ, "WAV", "PCM_16"))
        hertz = rng.uniform(100, 2000)
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(3 * RATE_HZ) / RATE_HZ)
        tone = tone.astype(np.float32)
        tones.append(write_soundfile(folder / f"t{number}.wav", tone, RATE_HZ, "WAV", "PCM_16"))
    others = {
        "EMO-DB, anger (German, other rooms)": [
            row for row in everything if row["corpus"] == "emodb" and row["emotion"] == "angry"
        ],
        "EMO-DB, boredom": [
            row for row in everything if row["corpus"] == "emodb" and row["emotion"] == "other"
        ],
    }
    lines = [
        "",
        'Told to be "none of these" by angry-intensity (0.05 is meant for new speakers of a '
        "trained kind):",
        "",
        "| recordings | share |",
        "|---|---|",
        f"| RAVDESS, angry, speaker held back | {np.mean(told):.3f} |",
    ]
    for name, rows in others.items():
        lines.append(f"| {name} | {share([data / row['path'] for row in rows]):.3f} |")
    lines.append(f"| white noise | {share(noises):.3f} |")
    lines.append(f"| pure tones | {share(tones):.3f} |")
    return lines


def time_lines(rows: Sequence[Row], data: Path, folder: Path, recogniser: Recogniser) -> list[str]:
    """Training on `TIMED_SAMPLES` whose embeddings exist, and near copies by re-encoding."""
    labelled = [row | {"label": row["original_label"].partition("/")[2]} for row in rows]
    drawn = np.random.default_rng(0).permutation(len(labelled))[:TIMED_SAMPLES]
    path = manifest(folder, "timed", data, [labelled[i] for i in drawn])
    train(path, "angry", "timed", data, recogniser)
    began = time.perf_counter()
    card = train(path, "angry", "timed", data, recogniser)
    taken_s = time.perf_counter() - began
    unit = unit_rows(arrays(used(path, data, recogniser))[0])
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    return [
        "",
        f"Training {card.samples} recordings of {card.speakers} speakers again, their embeddings "
        f"kept: {taken_s:.1f} s, from the manifest to the written head.",
        "",
        f"Highest cosine between two different recordings of these: {cosines.max():.5f}; from "
        f"{samples.NEAR_COPY_ABOVE} on one is taken for a copy.",
    ]


if __name__ == "__main__":
    main()
