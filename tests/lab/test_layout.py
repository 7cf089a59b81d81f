"""Places on the map: neighbours stay neighbours, and what has a place keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from emotion2vec_ui.lab import layout

POINTS, GROUPS = make_blobs(90, n_features=10, centers=3, cluster_std=1.0, random_state=1)
POINTS = POINTS.astype(np.float32)
NOWHERE = np.full((90, 2), np.nan, np.float32)


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    pytest.importorskip("openTSNE")
    return layout.place(POINTS, NOWHERE)


def test_neighbours_stay_neighbours(places):
    assert places.shape == (90, 2) and places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1)
    assert trustworthiness(POINTS, places, n_neighbors=5) > 0.9
    nearest = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(places)[1][:, 1]
    assert (GROUPS[nearest] == GROUPS).all()


def test_the_same_points_stand_in_the_same_places(places):
    np.testing.assert_array_equal(layout.place(POINTS, NOWHERE), places)


def test_progress_is_told_to_its_end():
    pytest.importorskip("openTSNE")
    shares: list[float] = []
    layout.place(POINTS, NOWHERE, on_progress=shares.append)
    assert len(shares) > 20 and shares == sorted(shares) and shares[-1] == 1


def test_a_new_recording_stands_in_its_group_and_moves_no_other(places):
    known = places.copy()
    new = np.array([5, 40, 77])
    known[new] = np.nan
    again = layout.place(POINTS, known)
    others = np.delete(np.arange(90), new)
    np.testing.assert_array_equal(again[others], places[others])
    for i in new:
        middles = [
            places[(group == GROUPS) & (np.arange(90) != i)].mean(axis=0) for group in range(3)
        ]
        distances = np.linalg.norm(np.array(middles) - again[i], axis=1)
        assert distances.argmin() == GROUPS[i]


def test_with_many_new_ones_the_map_is_drawn_anew_from_the_old_one(places):
    known = places.copy()
    known[GROUPS == 2] = np.nan
    again = layout.place(POINTS, known)
    assert np.isfinite(again).all() and trustworthiness(POINTS, again, n_neighbors=5) > 0.9

    def towards(where: np.ndarray) -> np.ndarray:
        step = where[GROUPS == 1].mean(axis=0) - where[GROUPS == 0].mean(axis=0)
        return step / np.linalg.norm(step)

    # What was left stays left: the old groups lie in the old direction of each other.
    assert towards(again) @ towards(places) > 0.5


def test_without_opentsne_the_components_are_shown(monkeypatch):
    monkeypatch.setattr(layout, "method", lambda: layout.PCA)
    again = layout.place(POINTS, NOWHERE)
    for axis in range(2):
        correlation = np.corrcoef(again[:, axis], POINTS[:, axis])[0, 1]
        assert correlation == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 9])
def test_few_recordings_have_places_too(n):
    again = layout.place(POINTS[:n], NOWHERE[:n])
    assert again.shape == (n, 2) and np.isfinite(again).all()
    one_component = layout.place(POINTS[:n, :1], NOWHERE[:n])
    assert np.isfinite(one_component).all() and (one_component[:, 1] == 0).all()


def test_copies_stand_in_one_place_without_dividing_by_zero():
    again = layout.place(np.ones((5, 3), np.float32), NOWHERE[:5])
    assert (again == 0).all()


# --- the file -------------------------------------------------------------------------------------


def test_a_layout_is_read_back(tmp_path: Path):
    path = tmp_path / ".map-0.npz"
    kept = layout.Layout(
        layout.method(), ("outputs_20260101_000000", "b"), np.eye(2, dtype=np.float32)
    )
    layout.write(path, kept)
    again = layout.read(path)
    assert again is not None and (again.method, again.folders) == (kept.method, kept.folders)
    np.testing.assert_array_equal(again.places, kept.places)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".map-0.npz", ".writing"]
    assert list((tmp_path / ".writing").iterdir()) == []


def test_a_damaged_or_missing_file_is_no_layout(tmp_path: Path):
    path = tmp_path / ".map-0.npz"
    assert layout.read(path) is None
    layout.write(path, layout.Layout("tsne", ("a",), np.zeros((1, 2), np.float32)))
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-1], b"\x93NUMPY" + whole):
        path.write_bytes(content)
        assert layout.read(path) is None
    with path.open("wb") as file:
        np.savez(file, folders=np.array(["a"]), places=np.zeros((2, 2)), version=1, method="tsne")
    assert layout.read(path) is None


def test_places_of_another_method_are_not_known():
    other = layout.Layout("umap", ("a", "b"), np.zeros((2, 2), np.float32))
    assert np.isnan(layout.known_places(other, ("a", "b"))).all()
    same = layout.Layout(layout.method(), ("b", "gone"), np.ones((2, 2), np.float32))
    known = layout.known_places(same, ("a", "b"))
    assert np.isnan(known[0]).all() and (known[1] == 1).all()
