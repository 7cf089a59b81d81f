"""A head's shares: what the formulas say, and no unit lost by rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from emotion2vec_ui.reading.subclass_head import Head, divided, shares


def head(**changes) -> Head:
    """Two classes in four dimensions; the samples lie along the first axis."""
    facts = {
        "classes": ("calm", "loud"),
        "mean": np.array([1, 0, 0, 0], np.float32),
        "scale": np.array([2, 1, 1, 1], np.float32),
        "weights": np.array([[0, 0, 0, 0], [1, 2, 0, 0]], np.float32),
        "bias": np.array([0, 0.5], np.float32),
        "temperature": 0.5,
        "samples": np.eye(4, dtype=np.float32)[[0, 0, 0]],
        "neighbours": 2,
        "none_above": 0.5,
    } | changes
    return Head(**facts)


def test_shares_are_a_tempered_logistic_regression_on_the_standardised_embedding():
    embedding = np.array([3.0, 0.25, 0, 0], np.float32)
    # Standardised (1, 0.25, 0, 0): logits 0 and 1 + 0.5 + 0.5, divided by 0.5.
    found = shares(embedding, head())
    assert found.classes == pytest.approx(softmax([0.0, 4.0])) and found.none == 0
    assert found.distance == pytest.approx(1 - 3 / np.hypot(3, 0.25), abs=1e-6)


def test_far_from_every_sample_it_is_none_of_them():
    found = shares(np.array([0, 1, 0, 0], np.float32), head())
    assert found.distance == pytest.approx(1) and found.none == 1 and not found.classes.any()
    assert shares(np.array([0, 1, 0, 0], np.float32), head(none_above=1.0)).none == 0


def test_what_is_of_another_model_or_not_finite_is_refused():
    for wrong in (np.zeros(5), np.zeros((1, 4)), np.array([1, np.nan, 0, 0])):
        with pytest.raises(ValueError, match="embedding"):
            shares(wrong, head())


def test_a_head_that_cannot_be_is_refused(subtests):
    for changes in (
        {"weights": np.zeros((3, 4), np.float32)},
        {"mean": np.full(4, np.nan, np.float32)},
        {"neighbours": 4},
        {"temperature": 0.0},
        {"scale": np.zeros(4, np.float32)},
        {"classes": ("one",), "weights": np.zeros((1, 4)), "bias": np.zeros(1)},
    ):
        with subtests.test(changes=changes), pytest.raises(ValueError):
            head(**changes)


@given(
    score=st.floats(0, 1),
    parts=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda parts: sum(parts) > 0.1),
)
def test_rounded_parts_sum_to_the_rounded_score(score, parts):
    normed = np.array(parts) / sum(parts)
    found = divided(score, normed.tolist(), 6)
    assert sum(round(one * 1e6) for one in found) == round(round(score, 6) * 1e6)
    assert np.abs(np.array(found) - score * normed).max() <= 1.51e-6
    assert min(found) >= 0
