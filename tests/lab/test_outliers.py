"""What stands apart: planted vectors, norms outside the model's range, too little to tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from emotion2vec_ui.errors import NoEmbeddings, NoEmbeddingsOfModel, TooFewEmbeddings
from emotion2vec_ui.lab import outliers
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import Settings
from tests import past
from tests.lab.test_index import moment

DIM = 32


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    one = History(tmp_path / "outputs")
    yield one
    one.close()


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """float32 (count, DIM): embeddings round one direction, of norms that are usual of compact."""
    dice = np.random.default_rng(seed)
    directions = np.eye(DIM)[0] * 3 + dice.normal(size=(count, DIM)) * 0.3
    lengths = dice.uniform(1.0, 1.6, (count, 1))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths).astype("f4")


def fill(history: History, vectors: np.ndarray, **facts: str) -> list[str]:
    return [
        past.save(history.outputs, kept=one, timestamp=moment(i), **facts)
        for i, one in enumerate(vectors)
    ]


def test_what_is_unlike_all_others_comes_first_and_says_why(history):
    vectors = crowd(60)
    vectors[7] = 1.3 * np.eye(DIM)[5]
    vectors[8] *= 4 / np.linalg.norm(vectors[8])
    vectors[9] *= 0.1
    folders = fill(history, vectors)
    poor = past.save(
        history.outputs, kept=-vectors[0], quality="poor", name="drowned.wav", timestamp=moment(99)
    )
    found = outliers.find(history, Settings(outputs=history.outputs))
    assert (found.model, found.count) == ("compact", 61)
    assert found.scores.keys() == {*folders, poor}
    told = {one.folder: one for one in found.outliers}
    assert told[poor].reasons == ("far_from_neighbours", "poor_quality")
    assert told[folders[7]].reasons == ("far_from_neighbours",)
    assert told[folders[8]].reasons == ("far_from_neighbours", "norm_high")
    assert told[folders[8]].norm == pytest.approx(4, abs=0.01)
    assert told[poor].name == "drowned.wav"
    scores = [one.score for one in found.outliers]
    assert scores == sorted(scores, reverse=True) and scores[0] == max(found.scores.values())
    assert all(found.scores[one.folder] == one.score >= 1 for one in found.outliers)
    # The built-in model's card, and the article's figure beside it.
    assert found.norm_range == (0.641, 2.162) and found.article_range == (1.8, 2.2)


def test_the_distances_are_those_of_scipy():
    vectors = crowd(80).astype(np.float16)
    apart, lengths = outliers.distances(vectors)
    every = cdist(vectors.astype(float), vectors.astype(float), "euclidean")
    np.fill_diagonal(every, np.inf)
    k = 8
    np.testing.assert_allclose(apart, np.sort(every)[:, :k].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(lengths, np.linalg.norm(vectors.astype(float), axis=1), rtol=1e-4)


def test_of_many_recordings_each_is_compared_with_some(monkeypatch):
    vectors = crowd(400)
    vectors[3] = np.eye(DIM)[9]
    every, _ = outliers.distances(vectors.astype(np.float16))
    monkeypatch.setattr(outliers, "MAX_COMPARED", 100)
    some, _ = outliers.distances(vectors.astype(np.float16))
    assert len(some) == 400 and some.argmax() == every.argmax() == 3


def test_recordings_that_are_all_the_same_do_not_stand_apart(history):
    fill(history, np.tile(crowd(1), (25, 1)))
    found = outliers.find(history, Settings(outputs=history.outputs))
    assert found.outliers == () and set(found.scores.values()) == {0.0}


def test_a_model_whose_range_is_not_measured_has_none(history):
    vectors = crowd(30)
    vectors[0] *= 50
    fill(history, vectors, model="somebody/emotion2vec_of_their_own")
    found = outliers.find(history, Settings(outputs=history.outputs))
    assert found.norm_range is None
    assert not [one for one in found.outliers if {"norm_low", "norm_high"} & set(one.reasons)]


def test_too_little_to_tell_is_an_error(history):
    settings = Settings(outputs=history.outputs)
    with pytest.raises(NoEmbeddings):
        outliers.find(history, settings)
    fill(history, crowd(outliers.MIN_RECORDINGS - 1))
    with pytest.raises(TooFewEmbeddings) as caught:
        outliers.find(history, settings)
    assert "19" in str(caught.value) and "20" in str(caught.value)
    with pytest.raises(NoEmbeddingsOfModel):
        outliers.find(history, settings, model="iic/emotion2vec_plus_large")
