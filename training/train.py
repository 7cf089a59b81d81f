"""Make the compact model: `python -m training.train --data DIR`.

Steps, each printed; the frames of the encoder are kept in the work folder so that an interrupted
run goes on: the pretrained encoder, cached frames of clean and changed clips, the gate, the
protocol (by speaker, leave one corpus out, small changes), the final model on all speakers, the
files.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import compact_file
from emotion2vec_ui.models.compact import Compact
from emotion2vec_ui.models.compact_file import Config
from emotion2vec_ui.models.files import (
    BUILT_IN_CARD_NAME,
    BUILT_IN_DIRECTORY,
    BUILT_IN_WEIGHTS_NAME,
    CALIBRATION_NAME,
)
from emotion2vec_ui.reading import calibration, familiarity

from . import baseline, cache, data, encoder, metrics, protocol
from .changes import CHANGES
from .fit import UNKNOWN, Head, Recipe, Vectors, fit, fit_gate, into, pool

VERSION = "2.1"
N_FOLDS = 4
N_NONSPEECH, N_NONSPEECH_TEST = 800, 200
N_CHANGED = 40  # clips of each corpus that the small changes are tried on
NONSPEECH_SEED, NONSPEECH_TEST_SEED, SPOILED_SEED, CHANGED_SEED, ROOMS_SEED = 1, 11, 2, 5, 7
MAX_BYTES = 15_000_000

LICENCE = "CC-BY-NC-SA-4.0"
CREDITS = [
    "Encoder: OpenAI Whisper base (Radford et al., Robust Speech Recognition via Large-Scale Weak "
    "Supervision, 2022), MIT licence, Copyright (c) 2022 OpenAI; lower layers.",
    "CTranslate2 conversion of it by Systran (faster-whisper-base, MIT).",
    "EMO-DB: Burkhardt et al., A Database of German Emotional Speech, Interspeech 2005 (CC0-1.0).",
    "RAVDESS: Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018 (CC BY-NC-SA 4.0).",
    "nEMO: Christop, nEMO: Dataset of Emotional Speech in Polish, LREC-COLING 2024 "
    "(CC BY-NC-SA 4.0).",
]


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--work", type=Path, default=Path("outputs/training"), help="scratch")
    parser.add_argument("--out", type=Path, default=BUILT_IN_DIRECTORY, help="where the model goes")
    args = parser.parse_args()

    recipe = Recipe()
    clips = data.select(data.read_manifest(args.data))
    folds = data.assign_folds(clips, N_FOLDS)
    everything = np.arange(len(clips))
    model = Compact(Config())
    encoder.load_whisper(model, args.work / "wheels")
    rounded(model.eval())

    chosen = choose_changed(clips)
    makers = {
        "clean": (cache.clean(args.data, clips), len(clips)),
        "spoiled": (cache.spoiled(args.data, clips, SPOILED_SEED), len(clips)),
        "rooms": (cache.in_rooms(args.data, clips, ROOMS_SEED), len(clips)),
        "nonspeech": (cache.not_speech(NONSPEECH_SEED), N_NONSPEECH),
        "nonspeech_test": (cache.not_speech(NONSPEECH_TEST_SEED), N_NONSPEECH_TEST),
        "changed": (cache.changed(args.data, clips, chosen), len(chosen) * len(CHANGES)),
    }
    caches = {
        name: cache.build(args.work / name, model, make, count)
        for name, (make, count) in makers.items()
    }
    gate = fit_gate(caches)
    pooled = {name: pool(one, gate) for name, one in caches.items()}
    vectors = Vectors(pooled["clean"], pooled["spoiled"], pooled["rooms"], pooled["nonspeech"])

    left_out, slope = protocol.leave_one_corpus_out(vectors, clips, folds, recipe)
    known, models = protocol.held_out(vectors, clips, folds, everything, recipe)
    weights = protocol.corpus_weights(clips, everything)
    norms = np.zeros(len(clips))
    for test, head, _ in models:
        norms[test] = np.linalg.norm(head.embed(vectors.clean[test]), axis=1)
    report = summarise(clips, folds, known, slope)
    report["leave_one_corpus_out"] = rounded_figures(left_out)
    report["small_changes"] = small_changes(
        pooled["changed"], chosen, known, models, slope, weights
    )

    head = fit(vectors, clips, everything, recipe)
    reference = protocol.references(head, vectors, everything)
    reference = protocol.calibrate(known, reference, weights, slope)
    tempered = norms / known.temperatures(reference)
    low, median, high = (round(float(q), 3) for q in np.quantile(tempered, [0.025, 0.5, 0.975]))
    report["embedding_norm"] = {"low": low, "high": high, "median": median}
    reference = replace(reference, norm_range=(low, high))
    report["familiarity"] = {
        "neighbours": reference.neighbours,
        "references": len(reference.embeddings),
        "median_distance": round(reference.median, 4),
        "spread": round(reference.spread, 4),
        "temperature": round(reference.temperature, 3),
        "slope": round(slope, 3),
        "max_temperature": reference.max_temperature,
        "unfamiliar_below": familiarity.UNFAMILIAR_BELOW,
        "doubted": familiarity.DOUBTED,
        "capped": familiarity.CAPPED,
        "most_when_capped": familiarity.MOST_WHEN_CAPPED,
    }
    report["nonspeech"] = nonspeech_figures(pooled["nonspeech_test"], models, reference)
    svm = args.work / "svm.npz"
    if not svm.is_file():
        np.savez(svm, guess=baseline.cross_validate(args.data, clips, folds))
    guess = np.load(svm)["guess"]
    for corpus, entry in report["uar"].items():
        rows = np.array([c.corpus == corpus for c in clips])
        entry["svm_baseline"] = round(metrics.uar(known.truth[rows], guess[rows]), 3)
    print(json.dumps({k: v for k, v in report.items() if k != "confusion"}, indent=1))
    into(model, gate, head)
    export(model, clips, recipe, report, reference, args.out)


def arrays(model: Compact) -> compact_file.Weights:
    """Return the weights of `model` as float32 arrays."""
    return {
        name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()
    }


def rounded(model: Compact) -> Compact:
    """Give `model` the weights that its int8 file will hold."""
    weights = compact_file.dequantise(compact_file.quantise(arrays(model)))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


def choose_changed(clips: list[data.Clip]) -> np.ndarray:
    """Draw the clips that the small changes are tried on, int64, rising."""
    rng = np.random.default_rng(CHANGED_SEED)
    corpora = np.array([c.corpus for c in clips])
    drawn = [rng.permutation(np.flatnonzero(corpora == c))[:N_CHANGED] for c in np.unique(corpora)]
    return np.sort(np.concatenate(drawn))


def summarise(
    clips: list[data.Clip], folds: np.ndarray, known: protocol.Answers, slope: float
) -> dict[str, Any]:
    """Turn held-out answers into the card's figures."""
    corpora = np.array([c.corpus for c in clips])
    speakers = np.array([c.speaker for c in clips])
    everything = np.arange(len(clips))
    blank = familiarity.Reference(
        embeddings=np.eye(2, dtype=np.float32), neighbours=1, quantiles=np.array([0.0, 1.0]),
        temperature=1.0, slope=slope, max_temperature=calibration.MAX_TEMPERATURE,
        norm_range=(0, 1),
    )  # fmt: skip
    # For the reported figures distances and temperature come from the other folds.
    scores = np.zeros_like(known.logits)
    for fold in np.unique(folds):
        rest, test = folds != fold, folds == fold
        weights = protocol.corpus_weights(clips, everything[rest])
        reference = protocol.calibrate(known[rest], blank, weights, slope)
        scores[test] = known[test].scores(reference)
    report: dict[str, Any] = {
        "protocol": f"{N_FOLDS}-fold cross-validation; no speaker is in two folds; "
        "95 % intervals by bootstrap over speakers; nine answers allowed, own classes counted",
        "uar": {},
        "ece": {
            "before": round(calibration.ece(metrics.softmax(known.logits), known.truth), 4),
            "after": round(calibration.ece(scores, known.truth), 4),
            "bins": calibration.ECE_BINS,
        },
        "false_unknown": {"clean": round(float((scores.argmax(1) == UNKNOWN).mean()), 4)},
        "confusion": {},
    }
    for corpus in np.unique(corpora):
        rows = corpora == corpus
        truth, guess = known.truth[rows], scores[rows].argmax(1)
        interval = metrics.uar_interval(truth, guess, groups=speakers[rows])
        report["uar"][str(corpus)] = {
            "value": round(metrics.uar(truth, guess), 3),
            "interval_95": [round(v, 3) for v in interval],
            "clips": int(rows.sum()),
            "speakers": len(set(speakers[rows])),
        } | {
            name: round(value, 3)
            for name, value in protocol.figures_of(known[rows], scores[rows]).items()
            if name in ("ece", "wrong_among_confident")
        }
        report["confusion"][str(corpus)] = metrics.confusion(truth, guess, len(EMOTIONS)).tolist()
    return report


def rounded_figures(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Three decimals are enough for people."""
    return {
        corpus: {name: round(value, 3) for name, value in entry.items()}
        for corpus, entry in figures.items()
    }


def small_changes(
    changed: np.ndarray,
    chosen: np.ndarray,
    known: protocol.Answers,
    models: list[tuple[np.ndarray, Head, familiarity.Reference]],
    slope: float,
    weights: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Count answers that stay, by models that never heard the speaker, over all and where sure."""
    by_change = changed.reshape(len(CHANGES), len(chosen), -1)
    same = np.zeros((len(CHANGES), len(chosen)), bool)
    sure = np.zeros(len(chosen), bool)
    unknown = np.zeros_like(same)
    for test, head, reference in models:
        calibrated = protocol.calibrate(known, reference, weights, slope)
        mine = np.isin(chosen, test)
        before = known[chosen[mine]].scores(calibrated)
        sure[mine] = before.max(1) > protocol.STEADY_ABOVE
        for k in range(len(CHANGES)):
            found = protocol.answer(head, reference, by_change[k, mine], known.truth[chosen[mine]])
            after = found.scores(calibrated).argmax(1)
            same[k, mine] = after == before.argmax(1)
            unknown[k, mine] = after == UNKNOWN
    return {
        name: {
            "unchanged": round(float(same[k].mean()), 3),
            "unchanged_where_sure": round(float(same[k, sure].mean()), 3),
            "sure": int(sure.sum()),
            "clips": len(chosen),
            "false_unknown": round(float(unknown[k].mean()), 3),
        }
        for k, name in enumerate(CHANGES)
    }


def nonspeech_figures(
    vectors: np.ndarray,
    models: list[tuple[np.ndarray, Head, familiarity.Reference]],
    calibrated: familiarity.Reference,
) -> dict[str, float]:
    """Share of unseen synthesised examples answered `unknown`, and its mean score."""
    right, scores = [], []
    for _, head, reference in models:
        mine = replace(calibrated, embeddings=reference.embeddings)
        found = protocol.answer(head, mine, vectors, np.full(len(vectors), UNKNOWN)).scores(mine)
        right.append((found.argmax(1) == UNKNOWN).mean())
        scores.append(found[:, UNKNOWN].mean())
    return {
        "answered_unknown": round(float(np.mean(right)), 4),
        "mean_unknown_score": round(float(np.mean(scores)), 4),
    }


def export(
    model: Compact,
    clips: list[data.Clip],
    recipe: Recipe,
    report: dict[str, Any],
    reference: familiarity.Reference,
    out: Path,
) -> None:
    """Write weights, reference and card; each appears whole or not at all."""
    card = {
        "format": compact_file.FORMAT,
        "id": "compact",
        "version": VERSION,
        "labels": list(EMOTIONS),
        "licence": LICENCE,
        "credits": CREDITS,
        "training_data": {
            "corpora": sorted({c.corpus for c in clips}),
            "clips": len(clips),
            "speakers": len({c.speaker for c in clips}),
            "shipped_model": "trained on all of these speakers; every figure below comes from "
            "models that had not heard the speaker",
            "not_speech": f"{N_NONSPEECH} synthesised examples",
        },
        "encoder": {
            "name": "OpenAI Whisper base, lower layers",
            "packages": [f"{w[0]}=={w[1]} sha256:{w[3]}" for w in encoder.WHEELS],
            "sha256": encoder.MODEL_SHA256,
        },
        "config": asdict(model.config),
        "recipe": asdict(recipe),
        **report,
    }
    metadata = compact_file.save_metadata(
        model.config, VERSION, licence=LICENCE, credits=json.dumps(CREDITS), card=json.dumps(card)
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / BUILT_IN_WEIGHTS_NAME
    temporary = path.with_suffix(".tmp")
    save_file(compact_file.quantise(arrays(model)), temporary, metadata)
    size = temporary.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{temporary} has {size} bytes, more than {MAX_BYTES}")
    temporary.chmod(0o644)  # safetensors writes for the owner only
    os.replace(temporary, path)
    familiarity.save(reference, out / CALIBRATION_NAME)
    temporary = out / (BUILT_IN_CARD_NAME + ".tmp")
    temporary.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, out / BUILT_IN_CARD_NAME)
    print(f"{path}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
