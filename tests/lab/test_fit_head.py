"""Fitting a head: it finds what is there and nothing else, on speakers that it never saw."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.preprocessing import StandardScaler

from emotion2vec_ui.lab import fit_head
from emotion2vec_ui.reading.scoring import softmax
from emotion2vec_ui.reading.subclass_head import shares


def data(
    n: int = 240, n_classes: int = 2, n_speakers: int = 12, apart: float = 4.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (n, 32): a voice of each speaker, a direction of each class, noise."""
    rng = np.random.default_rng(seed)
    speakers = np.arange(n) % n_speakers
    truth = np.arange(n) // n_speakers % n_classes
    voices = rng.normal(0, 1, (n_speakers, 32))
    directions = rng.normal(0, 1, (n_classes, 32))
    directions *= apart / np.linalg.norm(directions, axis=1, keepdims=True)
    # A mean of their own, as embeddings have: else cosines say little.
    embeddings = 3 + voices[speakers] + directions[truth] + rng.normal(0, 1, (n, 32))
    return embeddings, truth, np.array([f"speaker {one}" for one in speakers])


@pytest.fixture(scope="module")
def fitted() -> fit_head.Fitted:
    return fit_head.fit(*data(), ("low", "high"))


def test_what_is_there_is_found(fitted):
    low, high = fitted.judged.uar_interval
    assert 0.9 < low < fitted.judged.uar < high <= 1
    assert fitted.others.keys() == {"lda", "nearest_centroid"}
    assert all(one.uar > 0.75 for one in fitted.others.values())
    assert fitted.confusion.sum() == 240 and list(fitted.confusion.sum(1)) == [120, 120]
    right = fitted.confusion.diagonal() / fitted.confusion.sum(1)
    assert fitted.judged.uar == pytest.approx(right.mean())


def test_with_shuffled_labels_nothing_is_found(subtests):
    includes = 0
    for seed in range(5):
        embeddings, truth, speakers = data(120)
        shuffled = np.random.default_rng(seed).permutation(truth)
        low, high = fit_head.fit(embeddings, shuffled, speakers, ("a", "b")).judged.uar_interval
        includes += low <= 0.5 <= high
    # Each interval misses by chance one time in twenty.
    assert includes >= 4


def test_a_voice_is_no_class():
    """Two classes of different speakers who differ in their voices only: nothing is learnt."""
    embeddings, _, speakers = data(240, apart=0.0)
    number = np.array([int(one.split()[1]) for one in speakers])
    judged = fit_head.fit(embeddings, number % 2, speakers, ("a", "b")).judged
    # By recordings held back instead of speakers it would be nearly 1.
    assert judged.uar_interval[0] <= 0.5


def test_the_head_is_the_regression_of_scikit_learn(fitted):
    embeddings, truth, _ = data()
    scaler = StandardScaler().fit(embeddings)
    model = LogisticRegression(
        C=fitted.regularisation, class_weight="balanced", max_iter=5000, tol=1e-8
    ).fit(scaler.transform(embeddings), truth)
    expected = model.decision_function(scaler.transform(embeddings)) / fitted.head.temperature
    near = [i for i, one in enumerate(embeddings) if not shares(one, fitted.head).none]
    assert len(near) > 200
    found = np.array([shares(embeddings[i], fitted.head).classes for i in near])
    logits = np.column_stack([np.zeros(len(near)), expected[near]])
    assert np.abs(found - softmax(logits)).max() < 5e-3


def test_three_classes_and_an_unequal_number_of_samples():
    embeddings, truth, speakers = data(360, n_classes=3, apart=3.0)
    use = np.flatnonzero((truth != 2) | (np.arange(360) % 3 == 0))
    found = fit_head.fit(embeddings[use], truth[use], speakers[use], ("a", "b", "c"))
    assert found.judged.uar > 0.8 and found.confusion.shape == (3, 3)
    assert found.head.weights.shape == (3, 32)


def test_three_speakers_are_enough_to_judge():
    embeddings, truth, speakers = data(60, n_speakers=3, apart=4.0)
    assert fit_head.fit(embeddings, truth, speakers, ("a", "b")).judged.uar > 0.7


def test_a_class_of_few_speakers_is_in_every_training_part():
    _, truth, speakers = data(240)
    number = np.array([int(one.split()[1]) for one in speakers])
    use = (truth == 0) | (number < 3)  # the second class has three speakers of twelve
    for train, test in fit_head._folds(truth[use], speakers[use], 5):
        assert set(truth[use][train]) == {0, 1}
        assert not set(speakers[use][train]) & set(speakers[use][test])


def test_a_new_speaker_is_rarely_none_and_what_is_unlike_always():
    embeddings, truth, speakers = data(480, n_speakers=24)
    known = np.array([int(one.split()[1]) < 16 for one in speakers])
    head, _ = fit_head.head_of(embeddings[known], truth[known], speakers[known], ("a", "b"))
    new = np.mean([shares(one, head).none for one in embeddings[~known]])
    assert new < 0.2  # 0.05 is meant; eight voices are few
    assert all(shares(-one, head).none == 1 for one in embeddings[:20])


def test_progress_goes_from_none_to_all():
    told: list[tuple[int, int]] = []
    fit_head.fit(*data(60), ("a", "b"), on_progress=lambda *step: told.append(step))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_same_data_gives_the_same_figures(fitted):
    again = fit_head.fit(*data(), ("low", "high"))
    assert again.judged == fitted.judged and again.curve == fitted.curve
    assert np.array_equal(again.head.weights, fitted.head.weights)


# --- figures --------------------------------------------------------------------------------------


def test_uar_is_scikit_learns_balanced_accuracy():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    tables = fit_head.by_speaker(truth, guess, rng.integers(0, 9, 500), 3)
    assert tables.shape == (9, 3, 3)
    assert np.array_equal(tables.sum(axis=0), confusion_matrix(truth, guess))
    assert fit_head.uar(tables.sum(axis=0)) == pytest.approx(balanced_accuracy_score(truth, guess))


def test_the_interval_is_that_of_drawing_speakers_one_by_one():
    rng = np.random.default_rng(1)
    speakers = rng.integers(0, 10, 400)
    truth = rng.integers(0, 2, 400)
    # Some speakers are understood better than others.
    guess = np.where(rng.random(400) < 0.6 + 0.035 * speakers, truth, 1 - truth)
    low, high = fit_head.judge(truth, guess, speakers, 2).uar_interval
    drawn = []
    for _ in range(2000):
        who = rng.integers(0, 10, 10)
        rows = np.concatenate([np.flatnonzero(speakers == one) for one in who])
        drawn.append(balanced_accuracy_score(truth[rows], guess[rows]))
    # With ten speakers t is 2.262, times the root of 10/9 2.385 standard deviations: 0.85 %.
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.0085, 0.9915]), abs=0.015)


def test_the_interval_of_few_speakers_holds_the_truth_19_times_in_20():
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(8), 40)
    truth = np.tile([0, 1], 160)
    holds = []
    for _ in range(300):
        skill = np.clip(rng.normal(0.75, 0.08, 8), 0, 1)[speakers]
        guess = np.where(rng.random(320) < skill, truth, 1 - truth)
        low, high = fit_head.judge(truth, guess, speakers, 2).uar_interval
        holds.append(low <= 0.75 <= high)
    assert 0.91 < np.mean(holds) < 0.99


def test_reliability_of_known_cases():
    truth = np.array([0, 1] * 50)
    sure = np.where(np.eye(2)[truth] > 0, 0.9, 0.1)
    bins, ece = fit_head.reliability(sure, truth)
    assert [(one.samples, one.right) for one in bins] == [(100, 1.0)]
    assert bins[0].share == pytest.approx(0.9) and ece == pytest.approx(0.1)
    assert bins[0].from_share <= 0.9 <= bins[0].to_share
    honest, ece = fit_head.reliability(np.full((100, 2), 0.5), truth)
    assert ece == pytest.approx(0) and honest[0].from_share == 0.5


def test_the_curve_rises_and_says_whether_to_go_on(fitted):
    sizes = [one.samples for one in fitted.curve]
    assert sizes == sorted(sizes) and sizes[-1] > 150
    assert fitted.curve[-1].uar == pytest.approx(fitted.judged.uar)
    assert fitted.curve[0].uar < fitted.curve[-1].uar
    easy = fit_head.fit(*data(480, apart=8.0), ("a", "b"))
    assert easy.more_samples == "would_not_help"
