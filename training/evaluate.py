"""Judge the shipped model on recordings: ``python -m training.evaluate --data DIR``.

DIR holds ``manifest.csv`` with at least path, corpus, speaker, gender, emotion, as training does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import compact, files
from emotion2vec_ui.reading import calibration, familiarity
from emotion2vec_ui.reading.scoring import HIGH_ABOVE

from . import data, metrics

FULL_SCORES = 4  # decimals
QUARTILES = [0.25, 0.5, 0.75]


@torch.inference_mode()
def answer(model: compact.Compact, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one clip's tempered logits, float32 (9,), and its embedding, float32 (dim,)."""
    embedding = model(torch.from_numpy(data.normalise(wave))[None])[0].mean(0)
    return model.proj(embedding).numpy(), embedding.numpy()


def main() -> None:
    """Print one JSON object of figures, by corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument(
        "--model", type=Path, default=files.BUILT_IN_DIRECTORY, help="folder of weights"
    )
    parser.add_argument("--out", type=Path, help="also keep logits and labels here (.npz)")
    args = parser.parse_args()

    model = compact.load(args.model)
    clips = data.read_manifest(args.data)
    answers = [answer(model, data.read_wave(args.data / c.path)) for c in clips]
    logits = np.stack([a[0] for a in answers])
    norms = np.array([np.linalg.norm(a[1]) for a in answers])
    assert model.reference is not None, "the shipped model has its reference"
    familiar = np.array([familiarity.familiarity(a[1], model.reference) for a in answers])
    labels = np.array([c.label for c in clips])
    corpora = np.array([c.corpus for c in clips])
    speakers = np.array([c.speaker for c in clips])
    report = {}
    for corpus in np.unique(corpora):
        rows = corpora == corpus
        truth, guess = labels[rows], logits[rows].argmax(1)
        scores = metrics.softmax(logits[rows])
        sure = scores.max(1) > HIGH_ABOVE
        interval = metrics.uar_interval(truth, guess, speakers[rows])
        own = np.unique(truth)
        within = own[logits[rows][:, own].argmax(1)]
        report[str(corpus)] = {
            "clips": int(rows.sum()),
            "speakers": len(set(speakers[rows])),
            "uar": round(metrics.uar(truth, guess), FULL_SCORES),
            "uar_interval_95_over_speakers": [round(v, FULL_SCORES) for v in interval],
            "uar_own_classes_only": round(metrics.uar(truth, within), FULL_SCORES),
            "accuracy": round(float((truth == guess).mean()), FULL_SCORES),
            "ece": round(calibration.ece(scores, truth), FULL_SCORES),
            "confident": int(sure.sum()),
            "wrong_among_confident": round(float((guess != truth)[sure].mean()), FULL_SCORES)
            if sure.any()
            else None,
            "familiarity": [round(float(v), 3) for v in np.quantile(familiar[rows], QUARTILES)],
            "false_unknown": round(float((guess == EMOTIONS.index("unknown")).mean()), FULL_SCORES),
            "recall": {
                EMOTIONS[c]: round(float((guess[truth == c] == c).mean()), FULL_SCORES) for c in own
            },
            "confusion": metrics.confusion(truth, guess, len(EMOTIONS)).tolist(),
            "embedding_norm": [
                round(float(v), 3) for v in np.quantile(norms[rows], [0.025, 0.5, 0.975])
            ],
        }
    print(
        json.dumps(
            {"version": model.card.get("version"), "labels": EMOTIONS, "corpora": report}, indent=1
        )
    )
    if args.out:
        np.savez(args.out, logits=logits, labels=labels, corpora=corpora, speakers=speakers)


if __name__ == "__main__":
    main()
