"""The recipe of the built-in model, on vectors made here: the steps run, and do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from emotion2vec_ui.labels import EMOTIONS
from training import data, protocol, train
from training.data import Clip
from training.fit import OTHER, UNKNOWN, Recipe, Vectors, fit, within_corpora

WIDTH = 24
CORPORA = ("one", "two", "three")
TAUGHT = ("angry", "happy", "neutral", "sad")
RECIPE = Recipe(penalty=0.003)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Three corpora of four speakers; `other` in the first alone."""
    made = []
    for corpus in CORPORA:
        labels = [*TAUGHT, "other"] if corpus == "one" else TAUGHT
        for speaker in range(4):
            made += [
                Clip(0, "", corpus, f"{corpus}{speaker}", "fm"[speaker % 2], EMOTIONS.index(label))
                for label in labels
                for _ in range(12)
            ]
    return [replace(clip, number=number) for number, clip in enumerate(made)]


@pytest.fixture(scope="module")
def vectors(clips: list[Clip]) -> Vectors:
    """Each emotion and each corpus moves a clip into its own direction, corpora farther."""
    rng = np.random.default_rng(0)
    emotion, corpus = np.zeros((len(EMOTIONS), WIDTH)), np.zeros((len(CORPORA), WIDTH))
    emotion[:, : WIDTH // 2] = 2 * rng.standard_normal((len(EMOTIONS), WIDTH // 2))
    corpus[:, WIDTH // 2 :] = 3 * rng.standard_normal((len(CORPORA), WIDTH // 2))
    clean = np.stack([emotion[c.label] + corpus[CORPORA.index(c.corpus)] for c in clips])
    clean += rng.standard_normal(clean.shape)
    spoiled, rooms = (clean + 0.3 * rng.standard_normal(clean.shape) for _ in range(2))
    nonspeech = emotion[UNKNOWN] * 4 + rng.standard_normal((60, WIDTH))
    every = (one.astype(np.float32) for one in (clean, spoiled, rooms, nonspeech))
    return Vectors(*every)


def test_the_protocol_judges_what_was_left_out(vectors: Vectors, clips: list[Clip]) -> None:
    folds = data.assign_folds(clips, 2)
    everything = np.arange(len(clips))
    left_out, slope = protocol.leave_one_corpus_out(vectors, clips, folds, RECIPE)
    assert set(left_out) == set(CORPORA) and slope >= 0
    assert left_out["one"]["clips"] == 4 * 4 * 12  # nobody else teaches `other`
    assert all(entry["familiarity_auroc"] > 0.9 for entry in left_out.values())
    known, models = protocol.held_out(vectors, clips, folds, everything, RECIPE)
    assert sum(len(test) for test, _, _ in models) == len(clips)
    report = train.summarise(clips, folds, known, slope)
    assert all(entry["value"] > 0.9 for entry in report["uar"].values())
    assert 0 <= report["ece"]["after"] <= 1


def test_where_a_corpus_lies_teaches_the_discriminant_nothing(
    vectors: Vectors, clips: list[Clip]
) -> None:
    labels, corpora = np.array([c.label for c in clips]), np.array([c.corpus for c in clips])
    x, weight = vectors.clean.astype(np.float64), np.ones(len(clips))
    moved = x + 7 * (corpora == "one")[:, None]
    ridge = np.eye(WIDTH)
    head, bias = within_corpora(x, labels, corpora, weight, ridge)
    again, other_bias = within_corpora(moved, labels, corpora, weight, ridge)
    assert again == pytest.approx(head)
    taught = np.unique(labels)
    # The middle of the corpora moves by a third of it, and the biases with the middle.
    assert (other_bias - bias)[taught] == pytest.approx(-7 / 3 * head[:, taught].sum(0))
    assert (bias[np.delete(np.arange(len(EMOTIONS)), taught)] == 0).all()


def test_the_discriminant_is_scikit_learns_on_one_corpus_of_equal_classes(
    vectors: Vectors, clips: list[Clip]
) -> None:
    use = np.flatnonzero([c.corpus == "two" for c in clips])
    labels, x = np.array([clips[i].label for i in use]), vectors.clean[use].astype(np.float64)
    nothing = np.zeros((WIDTH, WIDTH))
    head, bias = within_corpora(x, labels, np.full(len(use), "two"), np.ones(len(use)), nothing)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x, labels)
    logits = (x @ head + bias)[:, theirs.classes_]
    assert np.diff(logits) == pytest.approx(np.diff(theirs.decision_function(x)), abs=1e-6)


def test_doubt_withdraws_other_alone(vectors: Vectors, clips: list[Clip]) -> None:
    head = fit(vectors, clips, np.arange(len(clips)), RECIPE)
    expected = np.zeros(len(EMOTIONS))
    expected[OTHER] = -RECIPE.other_doubt
    assert head.doubted == pytest.approx(expected)
