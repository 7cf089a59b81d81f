"""The figures of an evaluation: equal to scikit-learn's, and what a person can count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import calibration, metrics
from emotion2vec_ui.reading.metrics import Answers


def of(truth: list[int], answer: list[int], speakers: list[str] | None = None) -> Answers:
    """Answers given with a confidence of 0.6 and the rest spread."""
    scores = np.full((len(truth), 9), 0.05)
    scores[np.arange(len(truth)), answer] = 0.6
    return Answers(np.array(truth), scores, speakers)


def random_answers(n: int, speakers: int, seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, n)
    scores = rng.dirichlet(np.ones(9), n)
    scores[np.arange(n), truth] += 0.2
    names = [f"speaker {one}" for one in rng.integers(0, speakers, n)] if speakers else None
    return Answers(truth, scores / scores.sum(1, keepdims=True), names)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60))
def test_the_values_are_those_of_scikit_learn(pairs):
    truth, answer = [one for one, _ in pairs], [one for _, one in pairs]
    own = sorted(set(truth))
    found = metrics.figures(of(truth, answer))
    assert found.wa.value == pytest.approx(sklearn.accuracy_score(truth, answer))
    common = {"labels": own, "zero_division": 0}
    recall = sklearn.recall_score(truth, answer, average=None, **common)
    assert found.uar.value == pytest.approx(recall.mean())
    assert [one.recall for one in found.classes] == pytest.approx(recall)
    f1 = sklearn.f1_score(truth, answer, average=None, **common)
    assert found.macro_f1.value == pytest.approx(f1.mean())
    precision = sklearn.precision_score(truth, answer, average=None, **common)
    for one, value in zip(found.classes, precision, strict=True):
        answered = EMOTIONS.index(one.emotion) in answer
        assert one.precision == (pytest.approx(value) if answered else None)
    matrix = sklearn.confusion_matrix(truth, answer, labels=range(9))
    assert np.array_equal(found.confusion, matrix[own])


def test_an_answer_that_no_label_has_is_wrong_and_may_be_ruled_out():
    """Two angry, one answered "other", whose second choice was right; one happy."""
    answers = of([0, 0, 3], [0, 5, 3])
    answers.scores[1, 0] = 0.1
    found = metrics.figures(answers)
    assert found.uar.value == pytest.approx((0.5 + 1) / 2)
    assert found.uar_own_classes.value == 1.0
    assert found.confusion[0][5] == 1


def test_the_drawn_tables_give_what_drawing_speakers_one_by_one_gives():
    answers = random_answers(400, speakers=12)
    found = metrics.figures(answers)
    rng = np.random.default_rng(1)
    names = np.array(answers.speakers)
    members = [np.flatnonzero(names == one) for one in np.unique(names)]
    draws = {"uar": [], "wa": [], "macro_f1": []}
    for _ in range(2000):
        use = np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        truth, answer = answers.truth[use], answers.answer[use]
        own = {"labels": np.unique(truth), "average": "macro", "zero_division": 0}
        draws["uar"].append(sklearn.recall_score(truth, answer, **own))
        draws["wa"].append((truth == answer).mean())
        draws["macro_f1"].append(sklearn.f1_score(truth, answer, **own))
    for name, values in draws.items():
        estimate = getattr(found, name)
        low, high = np.quantile(values, [0.025, 0.975])
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.01), name


def test_without_speakers_recordings_are_drawn():
    """The share of right answers is then binomial: its standard error is known."""
    answers = random_answers(500, speakers=0)
    found = metrics.figures(answers)
    share = found.wa.value
    error = np.sqrt(share * (1 - share) / 500)
    assert found.speakers == 0
    assert found.wa.high - found.wa.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_speakers_that_differ_widen_the_interval():
    """Half of the speakers are always understood, half never."""
    truth, speakers = [0, 3] * 100, [f"{place // 20}" for place in range(200)]
    answer = [one if place < 100 else 8 for place, one in enumerate(truth)]
    by_speaker = metrics.figures(of(truth, answer, speakers)).uar
    by_clip = metrics.figures(of(truth, answer)).uar
    assert by_speaker.value == by_clip.value == 0.5
    assert by_speaker.high - by_speaker.low > 3 * (by_clip.high - by_clip.low)


def test_the_same_seed_gives_the_same_intervals():
    answers = random_answers(100, speakers=5)
    assert metrics.figures(answers, seed=3) == metrics.figures(answers, seed=3)
    assert metrics.figures(answers, seed=3) != metrics.figures(answers, seed=4)


def test_the_bins_are_those_of_the_calibration_error():
    answers = random_answers(700, speakers=0)
    found = metrics.figures(answers)
    assert sum(one.count for one in found.bins) == 700
    gap = sum(one.count * abs(one.accuracy - one.confidence) for one in found.bins) / 700
    assert found.ece == pytest.approx(gap)
    # scikit-learn's diagram has the same equal bins.
    top = answers.scores.max(1)
    accuracy, confidence = calibration_curve(answers.answer == answers.truth, top)
    assert [one.accuracy for one in found.bins] == pytest.approx(accuracy)
    assert [one.confidence for one in found.bins] == pytest.approx(confidence)


def calibration_curve(right: np.ndarray, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.calibration import calibration_curve as curve

    return curve(right, top, n_bins=calibration.ECE_BINS)


def test_risk_grows_from_the_surest_to_all():
    """Four recordings: the surest is right, the two next are equally sure, one of them wrong."""
    scores = np.full((4, 9), 0.01)
    for place, (answer, confidence) in enumerate([(0, 0.9), (0, 0.7), (3, 0.7), (3, 0.5)]):
        scores[place, answer] = confidence
    found = metrics.figures(Answers(np.array([0, 0, 0, 0]), scores, None))
    told = [(one.confidence, one.coverage, one.risk) for one in found.risk]
    assert told == [(0.9, 0.25, 0.0), (0.7, 0.75, pytest.approx(1 / 3)), (0.5, 1.0, 0.5)]
    assert found.aurc == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 * 0.5)


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    found = metrics.figures(random_answers(3000, speakers=0))
    assert len(found.risk) == metrics.RISK_POINTS
    assert found.risk[-1].coverage == 1.0
    assert found.risk[-1].risk == pytest.approx(1 - found.wa.value)
