"""Make the compact model: ``python -m training.train --data DIR``.

Steps, each printed and each kept in the work folder so that an interrupted run goes on:
the pretrained encoder, cached frames of clean and spoiled clips, the SVM baseline,
cross-validation by speaker, the final model on all speakers, the files.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import compact, files
from emotion2vec_ui.models.compact import Compact, Config

from . import baseline, cache, data, encoder, metrics
from .fit import UNKNOWN, Pool, Recipe, apply, fit

VERSION = "1.0"
N_FOLDS = 4
N_SPOILED = 1
NOISY_EVERY = 4  # one clip in four is also judged in noise: enough for a rate, and quick
N_NONSPEECH, N_NONSPEECH_TEST = 1600, 400
NONSPEECH_SEED, NONSPEECH_TEST_SEED, NOISY_SEED, SPOILED_SEED = 1, 11, 12, 2
MAX_BYTES = 15_000_000

LICENCE = "CC-BY-NC-SA-4.0"
CREDITS = [
    "Encoder: OpenAI Whisper base (Radford et al., Robust Speech Recognition via Large-Scale Weak "
    "Supervision, 2022), MIT licence, Copyright (c) 2022 OpenAI; lower layers, fine-tuned.",
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
    parser.add_argument(
        "--out", type=Path, default=files.BUILT_IN_DIRECTORY, help="where the model goes"
    )
    parser.add_argument("--final-only", action="store_true", help="skip cross-validation")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"device {device}, {torch.get_num_threads()} threads")

    recipe = Recipe()
    clips = data.read_manifest(args.data)
    folds = data.assign_folds(clips, N_FOLDS)
    base = Compact(Config())
    encoder.load_whisper(base, args.work / "wheels")
    base = rounded(base.to(device).eval())
    pool, noisy, other = build_caches(base, args.data, args.work, clips, recipe)

    report: dict[str, Any] = {}
    if not args.final_only:
        held_out = cross_validate(base, pool, noisy, other, folds, recipe, device, args.work)
        report = summarise(clips, folds, held_out)
        guess = _kept(
            args.work / "svm.npz",
            lambda: {"guess": baseline.cross_validate(args.data, clips, folds)},
        )["guess"]
        for corpus, entry in report["uar"].items():
            rows = np.array([c.corpus == corpus for c in clips])
            labels = np.array([c.label for c in clips])
            entry["svm_baseline"] = round(metrics.uar(labels[rows], guess[rows]), 3)
        print(json.dumps(report, indent=1))

    model = fit(base, pool, np.arange(len(clips)), recipe, device, "all speakers")
    export(model.cpu(), clips, recipe, report, args.out)


def rounded(model: Compact) -> Compact:
    """Give ``model`` the weights that its int8 file will hold."""
    model.load_state_dict(compact.dequantise(compact.quantise(model.state_dict())))
    return model


def build_caches(
    base: Compact, directory: Path, work: Path, clips: list[data.Clip], recipe: Recipe
) -> tuple[Pool, cache.Cache, cache.Cache]:
    """Return what to train on, the clips in noise, and unseen examples of not speech."""

    def build(name: str, make: cache.Maker, count: int, seed: int, spoil: bool) -> cache.Cache:
        path = work / f"layer{recipe.frozen}" / name
        return cache.build(
            path, base, recipe.frozen, make, directory, clips, count, seed=seed, spoil=spoil
        )

    n = len(clips)
    clean = build("clean", cache.speech_clean, n, 0, False)
    spoiled = [
        build(f"spoiled{k}", cache.speech_spoiled, n, SPOILED_SEED + k - 1, True)
        for k in range(1, N_SPOILED + 1)
    ]
    nonspeech = build("nonspeech", cache.not_speech, N_NONSPEECH, NONSPEECH_SEED, True)
    other = build("nonspeech_test", cache.not_speech, N_NONSPEECH_TEST, NONSPEECH_TEST_SEED, False)
    noisy = cache.build(
        work / f"layer{recipe.frozen}" / "noisy",
        base,
        recipe.frozen,
        cache.speech_noisy,
        directory,
        clips[::NOISY_EVERY],
        len(clips[::NOISY_EVERY]),
        seed=NOISY_SEED,
    )
    return Pool(clips, clean, spoiled, nonspeech), noisy, other


def cross_validate(
    base: Compact,
    pool: Pool,
    noisy: cache.Cache,
    other: cache.Cache,
    folds: np.ndarray,
    recipe: Recipe,
    device: str,
    work: Path,
) -> dict[str, np.ndarray]:
    """Train without each fold's speakers and answer them.

    Returns:
        ``logits`` (clips, 9), ``norms`` (clips,), ``noisy`` (every fourth clip, 9):
        each by the model that never heard the speaker; ``nonspeech`` (folds, examples, 9).
    """
    n = len(folds)
    result = {
        "logits": np.zeros((n, len(EMOTIONS))),
        "noisy": np.zeros((len(noisy), len(EMOTIONS))),
        "norms": np.zeros(n),
    }
    nonspeech = []
    for fold in range(int(folds.max()) + 1):
        test = np.flatnonzero(folds == fold)

        def run(fold: int = fold, test: np.ndarray = test) -> dict[str, np.ndarray]:
            train = np.flatnonzero(folds != fold)
            model = rounded(fit(base, pool, train, recipe, device, f"fold {fold + 1}"))
            embeddings, logits = apply(model, pool.clean, test, recipe.frozen, device)
            return {
                "logits": logits,
                "norms": np.linalg.norm(embeddings, axis=1),
                "noisy": apply(model, noisy, _in_noisy(test), recipe.frozen, device)[1],
                "nonspeech": apply(model, other, np.arange(len(other)), recipe.frozen, device)[1],
            }

        found = _kept(work / f"fold{fold}.npz", run)
        for name in ("logits", "norms"):
            result[name][test] = found[name]
        result["noisy"][_in_noisy(test)] = found["noisy"]
        nonspeech.append(found["nonspeech"])
    result["nonspeech"] = np.stack(nonspeech)
    return result


def summarise(
    clips: list[data.Clip], folds: np.ndarray, held_out: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Turn held-out answers into the card's figures."""
    labels = np.array([c.label for c in clips])
    corpora = np.array([c.corpus for c in clips])
    speakers = np.array([c.speaker for c in clips])
    logits, noisy = held_out["logits"], held_out["noisy"]
    guess = logits.argmax(1)
    names, counts = np.unique(corpora, return_counts=True)
    weights = 1 / counts[np.searchsorted(names, corpora)]  # each corpus counts the same

    # For the reported error the temperature comes from the other folds; the shipped one from all.
    scaled = np.zeros_like(logits)
    for fold in np.unique(folds):
        rest = folds != fold
        temperature = metrics.fit_temperature(logits[rest], labels[rest], weights[rest])
        scaled[~rest] = metrics.softmax(logits[~rest], temperature)
    temperature = metrics.fit_temperature(logits, labels, weights)
    unknown = metrics.softmax(held_out["nonspeech"], temperature)
    low, median, high = np.quantile(held_out["norms"], [0.025, 0.5, 0.975])
    report: dict[str, Any] = {
        "protocol": f"{N_FOLDS}-fold cross-validation; no speaker is in two folds; "
        "95 % intervals by bootstrap over speakers; nine answers allowed, own classes counted",
        "uar": {},
        "temperature": round(temperature, 3),
        "ece": {
            "before": round(metrics.ece(metrics.softmax(logits), labels), 4),
            "after": round(metrics.ece(scaled, labels), 4),
            "bins": metrics.ECE_BINS,
        },
        "false_unknown": {
            "clean": round(float((guess == UNKNOWN).mean()), 4),
            f"at {cache.NOISY_SNR_DB:.0f} dB SNR": round(
                float((noisy.argmax(1) == UNKNOWN).mean()), 4
            ),
        },
        "nonspeech": {
            "answered_unknown": round(float((unknown.argmax(-1) == UNKNOWN).mean()), 4),
            "mean_unknown_score": round(float(unknown[..., UNKNOWN].mean()), 4),
        },
        "embedding_norm": {
            "low": round(float(low), 3),
            "high": round(float(high), 3),
            "median": round(float(median), 3),
        },
        "confusion": {},
    }
    for corpus in names:
        rows = corpora == corpus
        in_noise = rows[::NOISY_EVERY]
        args = labels[rows], guess[rows]
        report["uar"][str(corpus)] = {
            "value": round(metrics.uar(*args), 3),
            "interval_95": [
                round(v, 3) for v in metrics.uar_interval(*args, groups=speakers[rows])
            ],
            f"at {cache.NOISY_SNR_DB:.0f} dB SNR": round(
                metrics.uar(labels[::NOISY_EVERY][in_noise], noisy[in_noise].argmax(1)), 3
            ),
            "clips": int(rows.sum()),
            "speakers": len(set(speakers[rows])),
        }
        report["confusion"][str(corpus)] = metrics.confusion(*args, len(EMOTIONS)).tolist()
    return report


def export(
    model: Compact, clips: list[data.Clip], recipe: Recipe, report: dict[str, Any], out: Path
) -> None:
    """Write ``model.safetensors`` and ``card.json``; each appears whole or not at all."""
    temperature = report.get("temperature", 1.0)
    with torch.no_grad():
        model.proj.weight.div_(temperature)
        model.proj.bias.div_(temperature)
    card = {
        "format": compact.FORMAT,
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
    metadata = compact.save_metadata(
        model.config, VERSION, licence=LICENCE, credits=json.dumps(CREDITS), card=json.dumps(card)
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / files.BUILT_IN_WEIGHTS_NAME
    temporary = path.with_suffix(".tmp")
    save_file(compact.quantise(model.state_dict()), temporary, metadata)
    size = temporary.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{temporary} has {size} bytes, more than {MAX_BYTES}")
    temporary.chmod(0o644)  # safetensors writes for the owner only
    os.replace(temporary, path)
    temporary = out / (files.BUILT_IN_CARD_NAME + ".tmp")
    temporary.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, out / files.BUILT_IN_CARD_NAME)
    print(f"{path}: {size / 1e6:.2f} MB")


def _in_noisy(which: np.ndarray) -> np.ndarray:
    """Return where the clips ``which`` are among those judged in noise, int64."""
    return which[which % NOISY_EVERY == 0] // NOISY_EVERY


def _kept(path: Path, compute: Any) -> dict[str, np.ndarray]:
    """Return what ``path`` holds, else compute it and keep it there."""
    if not path.is_file():
        np.savez(path, **compute())
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


if __name__ == "__main__":
    main()
