"""Fitting a reference: what it finds where the truth is known; nobody is judged by himself."""

from __future__ import annotations

import numpy as np
import pytest

from emotion2vec_ui.reading import calibration, familiarity
from emotion2vec_ui.reading.scoring import softmax

SHA256 = "a" * 64


def answers(overconfidence: float, seed: int = 0, n: int = 600) -> calibration.Answers:
    """Answers whose logits are right but for a factor, of ten speakers."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (n, 9))
    truth = np.array([rng.choice(9, p=row) for row in softmax(honest)])
    embeddings = rng.normal(0, 1, (n, 16))
    groups = np.array([f"speaker {i % 10}" for i in range(n)])
    return calibration.Answers(honest * overconfidence, embeddings, truth, groups)


def test_overconfidence_is_found_and_taken_back() -> None:
    fitted = calibration.fit(answers(3.0), SHA256)
    assert fitted.reference.temperature == pytest.approx(3.0, rel=0.15)
    assert fitted.reference.slope < 0.3  # it does not depend on the distance here
    assert fitted.ece_before > 0.2 and fitted.ece_after < 0.08
    assert fitted.reference.weights_sha256 == SHA256


def test_honest_scores_stay() -> None:
    fitted = calibration.fit(answers(1.0), SHA256)
    assert fitted.reference.temperature == pytest.approx(1.0, rel=0.15)
    assert fitted.ece_after < fitted.ece_before + 0.02


def test_a_temperature_that_grows_with_the_distance_is_found() -> None:
    given = answers(1.0, n=1200)
    rng = np.random.default_rng(1)
    # Half lies in a heap, half all around; those are answered three times too surely.
    far = rng.random(1200) < 0.5
    heap = rng.normal(0, 0.1, (1200, 16)) + np.eye(16)[0]
    embeddings = np.where(far[:, None], given.embeddings, heap)
    logits = given.logits * np.where(far, 3.0, 1.0)[:, None]
    mixed = calibration.Answers(logits, embeddings, given.truth, given.groups)
    fitted = calibration.fit(mixed, SHA256)
    assert fitted.reference.slope > 0.5 and fitted.ece_after < fitted.ece_before


def test_nobody_is_compared_with_himself() -> None:
    """Every speaker's recordings are one point: to others the distance is 1, to his own 0."""
    given = answers(1.0, n=100)
    speaker = np.array([int(group.split()[1]) for group in given.groups])
    points = calibration.Answers(given.logits, np.eye(16)[speaker], given.truth, given.groups)
    reference = calibration.fit(points, SHA256).reference
    assert reference.quantiles.min() == pytest.approx(1.0)


def test_the_norm_range_holds_the_middle_95_percent() -> None:
    given = answers(1.0)
    low, high = calibration.fit(given, SHA256).reference.norm_range
    norms = np.linalg.norm(given.embeddings, axis=1)
    assert ((norms >= low) & (norms <= high)).mean() == pytest.approx(0.95, abs=0.01)


def test_tempering_never_changes_the_leader() -> None:
    given = answers(3.0)
    reference = calibration.fit(given, SHA256).reference
    for logits, embedding in zip(given.logits[:50], given.embeddings[:50], strict=True):
        distance = familiarity.distance(embedding, reference)
        assert familiarity.temper(logits, distance, reference).argmax() == logits.argmax()


def test_the_calibration_error_of_known_cases() -> None:
    truth = np.zeros(10, int)
    sure = np.tile([1.0, 0.0], (10, 1))
    assert calibration.ece(sure, truth) == 0.0
    assert calibration.ece(sure, truth + 1) == 1.0
    assert calibration.ece(sure, np.array([0] * 7 + [1] * 3)) == pytest.approx(0.3)
