"""Clusters: found where there are some, described by what scikit-learn and the rows say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, silhouette_score

from emotion2vec_ui.errors import BadField
from emotion2vec_ui.lab import clusters
from emotion2vec_ui.lab.differences import differences
from emotion2vec_ui.lab.index import Space
from emotion2vec_ui.lab.reduction import COMPONENTS, reduced
from emotion2vec_ui.records.index_file import Row, row_of
from tests import past

N = 120


def row(number: int, **facts) -> Row:
    day, second = divmod(number, 60)
    timestamp = f"2026-01-{day + 1:02} 10:00:{second:02}"
    return row_of(
        f"outputs_202601{day + 1:02}_1000{second:02}",
        past.report(timestamp=timestamp, name=f"{number}.wav", **facts),
    )


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four groups of directions in 20 dimensions, and which is which."""
    return make_blobs(N, n_features=20, centers=4, cluster_std=0.6, random_state=3)


@pytest.fixture(scope="module")
def space(blobs) -> Space:
    """The first group is sad; all else is angry and fearful by turns."""
    _, groups = blobs
    rows = tuple(
        row(i, emotion="sad" if group == 0 else ("angry", "fearful")[i % 2])
        for i, group in enumerate(groups)
    )
    return Space("compact", "0" * 64, rows, blobs[0].astype(np.float16))


# --- reduction ------------------------------------------------------------------------------------


def test_reduction_keeps_the_distances_of_directions():
    vectors = np.random.default_rng(0).normal(size=(60, 24)) * np.linspace(0.1, 9, 60)[:, None]
    points = reduced(vectors)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for i, j in [(0, 1), (10, 59), (30, 31)]:
        cosine = directions[i] @ directions[j]
        squared = ((points[i] - points[j]).astype(np.float64) ** 2).sum()
        assert squared == pytest.approx(2 - 2 * cosine, abs=1e-4)


def test_reduction_keeps_at_most_fifty_components_and_copes_with_few_recordings():
    rng = np.random.default_rng(1)
    assert reduced(rng.normal(size=(200, 300)).astype(np.float16)).shape == (200, COMPONENTS)
    assert reduced(rng.normal(size=(3, 300))).shape == (3, 2)


# --- which points lie together --------------------------------------------------------------------


def test_k_is_found_by_the_silhouette_and_the_groups_are_those_that_were_made(blobs):
    points = reduced(blobs[0])
    shares = []
    found = clusters.find(points, on_progress=shares.append)
    assert found.k == 4
    assert adjusted_rand_score(blobs[1], found.labels) == 1
    assert found.silhouette == pytest.approx(silhouette_score(points, found.labels))
    tried = [one.k for one in found.silhouettes]
    assert tried == list(range(2, 13))
    assert max(found.silhouettes, key=lambda one: one.silhouette).k == 4
    assert shares == sorted(shares) and shares[-1] == 1


def test_the_same_points_give_the_same_clusters(blobs):
    points = reduced(blobs[0])
    for method in clusters.METHODS:
        first, second = (clusters.find(points, method=method) for _ in range(2))
        np.testing.assert_array_equal(first.labels, second.labels)


def test_a_number_that_is_asked_for_is_given(blobs):
    found = clusters.find(reduced(blobs[0]), k=3)
    assert found.k == 3 and len(set(found.labels)) == 3 and found.silhouettes == ()


def test_hdbscan_leaves_out_what_is_far_from_all_groups(blobs):
    strays = np.random.default_rng(6).normal(size=(4, 20)) * 10
    points = reduced(np.concatenate([blobs[0], strays]))
    found = clusters.find(points, method="hdbscan")
    assert found.k == 4
    assert adjusted_rand_score(blobs[1], found.labels[:N]) > 0.95
    assert (found.labels[N:] == -1).all()


def test_of_many_points_a_sample_tells_hdbscan_where_the_others_belong(blobs, monkeypatch):
    monkeypatch.setattr(clusters, "DENSITY_OF", 60)
    found = clusters.find(reduced(blobs[0]), method="hdbscan")
    assert found.k == 4 and adjusted_rand_score(blobs[1], found.labels) > 0.9


def test_of_many_points_batches_find_the_same_groups():
    vectors, groups = make_blobs(
        clusters.BATCHES_ABOVE + 1, n_features=8, centers=3, cluster_std=0.3, random_state=0
    )
    found = clusters.find(vectors.astype(np.float32))
    assert found.k == 3 and adjusted_rand_score(groups, found.labels) == 1


def test_copies_of_few_recordings_are_no_more_clusters_than_recordings():
    same = np.ones((12, 4), np.float32)
    found = clusters.find(same)
    assert (found.k, found.silhouette, set(found.labels)) == (1, None, {0})
    two = np.repeat(np.eye(2, 4, dtype=np.float32), 8, axis=0)
    assert clusters.find(two).k == 2
    assert clusters.find(two, k=5).k == 2


@pytest.mark.parametrize(
    ("method", "k", "field"),
    [
        ("dbscan", "auto", "method"),
        ("kmeans", "1", "k"),
        ("kmeans", "51", "k"),
        ("kmeans", "٣", "k"),
        ("kmeans", "-2", "k"),
        ("kmeans", "99999999999999", "k"),
        ("hdbscan", "3", "k"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_can(method, k, field):
    with pytest.raises(BadField) as raised:
        clusters.check(method, k)
    assert raised.value.facts["field"] == field
    assert clusters.check("kmeans", "50") == 50 and clusters.check("hdbscan", "auto") is None


# --- what they are like ---------------------------------------------------------------------------


def test_clusters_are_told_largest_first_with_what_is_in_them(space, blobs):
    points = reduced(space.vectors)
    told = clusters.describe(space, points, clusters.find(points), "kmeans")
    assert (told.model, told.method, told.k) == ("compact", "kmeans", 4)
    assert [one.id for one in told.clusters] == [1, 2, 3, 4]
    sizes = [one.size for one in told.clusters]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == N
    for one in told.clusters:
        members = {folder for folder, id_ in told.assignments.items() if id_ == one.id}
        assert len(members) == one.size == sum(one.emotions.values())
        assert set(one.typical) <= members
    (sad,) = [one for one in told.clusters if one.emotions.get("sad")]
    assert sad.emotions == {"sad": int((blobs[1] == 0).sum())}
    largest = sad.differences[0]
    assert (largest.code, largest.inside, largest.outside) == ("emotion.sad", 1.0, 0.0)


def test_the_most_typical_is_nearest_the_middle_and_no_file_stands_there_twice(space):
    points = np.zeros((N, 2), np.float32)
    points[:, 0] = np.arange(N)
    rows = tuple(row(i) for i in range(N))  # all of one file
    found = clusters.Found(np.zeros(N, np.intp), 1, None, ())
    told = clusters.describe(Space("compact", None, rows, points), points, found, "kmeans")
    middle = {rows[59].folder, rows[60].folder}
    assert len(told.clusters[0].typical) == 1 and set(told.clusters[0].typical) <= middle


def test_a_difference_is_in_standard_deviations_over_all():
    rows = [row(i, confidence=0.9 if i < 30 else 0.6) for i in range(90)]
    inside = np.arange(90) < 30
    found = {one.code: one for one in differences(rows, inside)}
    values = np.array([one.confidence for one in rows])
    expected = (0.9 - 0.6) / values.std()
    assert found["confidence"].effect == pytest.approx(expected, abs=1e-3)
    assert (found["confidence"].inside, found["confidence"].outside) == (0.9, 0.6)
    # The recordings of the cluster are the oldest; all have one length and one quality.
    assert found["time_s"].effect < -0.5
    assert set(found) == {"confidence", "time_s"}


def test_what_old_results_do_not_tell_does_not_count(tmp_path: Path):
    import json

    from emotion2vec_ui.records.report import parse

    folder = past.save_old(tmp_path)
    old = row_of(folder, parse((tmp_path / folder / "result.json").read_bytes()))
    assert json.loads((tmp_path / folder / "result.json").read_bytes())["emotion"] == old.emotion
    found = differences([old, *(row(i, emotion="sad") for i in range(5))], np.arange(6) < 1)
    assert {one.code.partition(".")[0] for one in found} <= {"emotion", "time_s", "confidence"}
