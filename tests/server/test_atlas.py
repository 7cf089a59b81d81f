"""Clusters and map by HTTP: the contract's shape, and errors that say what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests

from emotion2vec_ui.errors import ShuttingDown, StillComputing
from emotion2vec_ui.lab import layout
from emotion2vec_ui.lab.atlas import Atlas
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import Settings
from tests import past
from tests.conftest import Server
from tests.test_cli import run

EMOTIONS = ("sad", "angry", "happy")
PER_GROUP = 8


def fill(outputs: Path, groups: int = 3, per_group: int = PER_GROUP) -> dict[str, int]:
    """Results in groups of directions, and the group of each folder."""
    rng = np.random.default_rng(0)
    made = {}
    for number in range(groups * per_group):
        group = number % groups
        vector = np.eye(16, dtype=np.float32)[group] + rng.normal(scale=0.03, size=16)
        folder = past.save(
            outputs,
            kept=vector.astype(np.float32),
            name=f"{number}.wav",
            emotion=EMOTIONS[group],
            timestamp=f"2026-01-02 10:00:{number:02}",
        )
        made[folder] = group
    return made


@pytest.fixture(scope="module")
def filled(start_server, tmp_path_factory) -> tuple[Server, dict[str, int]]:
    """A server with three groups of recordings, and the group of each."""
    outputs = tmp_path_factory.mktemp("filled")
    groups = fill(outputs)
    return replace(
        start_server("--model", "compact", "--outputs", str(outputs)), outputs=outputs
    ), groups


@pytest.fixture(scope="module")
def small(start_server, tmp_path_factory) -> Server:
    """A server without any result yet."""
    outputs = tmp_path_factory.mktemp("small")
    return replace(start_server("--model", "compact", "--outputs", str(outputs)), outputs=outputs)


def get(server: Server, address: str) -> requests.Response:
    return requests.get(f"{server.url}{address}", timeout=60)


def wait(server: Server, address: str) -> dict:
    for _ in range(20):
        answer = get(server, address)
        if answer.status_code != 503:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert answer.json()["error"]["code"] == "still_computing"
        assert int(answer.headers["retry-after"]) > 0
    raise AssertionError(address)


def test_clusters_have_the_contracts_shape(filled):
    told = wait(filled[0], "/api/clusters")
    assert list(told)[:6] == ["model", "method", "k", "silhouette", "clusters", "assignments"]
    assert (told["model"], told["method"], told["k"]) == ("compact", "kmeans", 3)
    assert told["silhouette"] > 0.7
    assert told["assignments"].keys() == filled[1].keys()
    pairs = {(told["assignments"][folder], group) for folder, group in filled[1].items()}
    assert len(pairs) == 3
    for one in told["clusters"]:
        assert list(one)[:4] == ["id", "size", "emotions", "typical"]
        assert one["size"] == PER_GROUP and list(one["emotions"].values()) == [PER_GROUP]
    assert wait(filled[0], "/api/clusters?k=2")["k"] == 2
    assert wait(filled[0], "/api/clusters?method=hdbscan")["method"] == "hdbscan"


def test_the_map_has_a_place_for_every_recording_and_groups_apart(filled):
    told = wait(filled[0], "/api/map")
    columns = ("folder", "name", "x", "y", "emotion", "confidence", "quality", "timestamp")
    assert {len(told[name]) for name in columns} == {3 * PER_GROUP}
    places = np.array([told["x"], told["y"]]).T
    groups = np.array([filled[1][folder] for folder in told["folder"]])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(axis=1)] == groups).all()


def test_a_new_result_gets_a_place_and_moves_no_other(filled):
    before = wait(filled[0], "/api/map")
    outputs = filled[0].outputs
    assert len(list(outputs.glob(".map-*.npz"))) == 1
    new = past.save(outputs, kept=np.eye(16, dtype=np.float32)[1], timestamp="2026-02-01 10:00:00")
    after = wait(filled[0], "/api/map")
    places = {
        one: (x, y) for one, x, y in zip(after["folder"], after["x"], after["y"], strict=True)
    }
    assert places.keys() == {new, *before["folder"]}
    for folder, x, y in zip(before["folder"], before["x"], before["y"], strict=True):
        assert places[folder] == (x, y)
    requests.delete(f"{filled[0].url}/api/history/{new}", timeout=30)
    assert wait(filled[0], "/api/map")["folder"] == before["folder"]


def test_a_damaged_map_file_is_drawn_anew(filled):
    before = wait(filled[0], "/api/map")
    outputs = filled[0].outputs
    (path,) = outputs.glob(".map-*.npz")
    path.write_bytes(b"no map")
    new = past.save(outputs, kept=np.ones(16, np.float32), timestamp="2026-02-02 10:00:00")
    assert len(wait(filled[0], "/api/map")["folder"]) == len(before["folder"]) + 1
    assert layout.read(path) is not None
    store.discard(outputs / new)


@pytest.mark.parametrize(
    ("query", "field"),
    [("k=1", "k"), ("k=x", "k"), ("method=dbscan", "method"), ("method=hdbscan&k=3", "k")],
)
def test_a_bad_value_names_the_allowed_ones(filled, query, field):
    answer = get(filled[0], f"/api/clusters?{query}")
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


def test_from_nothing_to_the_first_map(small):
    for address in ("/api/clusters", "/api/map"):
        answer = get(small, address)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "no_embeddings"
        assert answer.json()["error"]["hint"]
    fill(small.outputs, groups=1, per_group=3)
    answer = get(small, "/api/clusters")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("There are 3 recordings")
    assert len(wait(small, "/api/map")["folder"]) == 3
    other = get(small, "/api/map?model=iic/emotion2vec_plus_large")
    assert other.json()["error"]["code"] == "no_embeddings_of_model"


def test_who_stops_the_atlas_does_not_wait_for_a_map(tmp_path):
    fill(tmp_path)
    history = History(tmp_path)
    atlas = Atlas(history, Settings(outputs=tmp_path))
    task = atlas.map()
    with pytest.raises(StillComputing):
        task.wait(0)
    atlas.stop()
    assert task.done
    with pytest.raises(ShuttingDown):
        task.wait(0)
    with pytest.raises(ShuttingDown):
        atlas.map()
    history.close()


def test_the_command_prints_what_the_route_answers(filled):
    outputs = filled[0].outputs
    done = run("cluster", "--json", "--outputs", outputs)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wait(filled[0], "/api/clusters")
    done = run("cluster", "--outputs", outputs)
    assert "3 clusters by k-means" in done.stdout and "mostly sad" in done.stdout
    assert run("cluster", "--k", "1", "--outputs", outputs).returncode == 2
    empty = run("cluster", "--outputs", outputs / "nothing")
    assert empty.returncode == 1 and "embedding" in empty.stderr
