"""Similar recordings and outliers over HTTP."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import requests

from emotion2vec_ui.lab.outliers import MIN_RECORDINGS
from tests import past
from tests.lab.test_index import moment
from tests.lab.test_outliers import crowd
from tests.past import EXAMPLE


@pytest.fixture(scope="module")
def stocked(start_server, tmp_path_factory):
    """A server with 25 results of a model that is not the one that answers, one of them apart."""
    outputs = tmp_path_factory.mktemp("lab")
    vectors = crowd(25)
    vectors[4] = -vectors[4]
    model = "somebody/else"
    folders = [
        past.save(outputs, kept=one, model=model, timestamp=moment(i))
        for i, one in enumerate(vectors)
    ]
    server = start_server("--model", "compact", "--outputs", str(outputs))
    server.wait_ready()
    return replace(server, outputs=outputs), folders


def get(server, path: str, **options) -> requests.Response:
    return requests.get(server.url + path, timeout=30, **options)


def post(server, **fields: str) -> requests.Response:
    with EXAMPLE.open("rb") as file:
        return requests.post(
            f"{server.url}/api/similar", files={"audio": file}, data=fields, timeout=60
        )


def test_a_result_finds_itself_first(stocked):
    server, folders = stocked
    body = get(server, f"/api/similar/{folders[3]}?top=4").json()
    assert list(body) == ["query", "model", "results"]
    assert (body["query"], body["model"]) == (folders[3], "somebody/else")
    assert len(body["results"]) == 4
    first = body["results"][0]
    assert list(first) == ["folder", "name", "emotion", "confidence", "cosine", "result_url"]
    assert (first["folder"], first["cosine"]) == (folders[3], 1)
    cosines = [one["cosine"] for one in body["results"]]
    assert cosines == sorted(cosines, reverse=True)
    assert get(server, first["result_url"]).json()["emotion"] == first["emotion"]


def test_a_recording_finds_itself_and_no_other_models_results(stocked):
    server, _ = stocked
    none = post(server)
    assert (none.status_code, none.json()["error"]["code"]) == (404, "no_embeddings_of_model")
    with EXAMPLE.open("rb") as file:
        sent = requests.post(f"{server.url}/api/predict", files={"audio": file}, timeout=60).json()
    folder = sent["output_dir"].removeprefix("outputs/")
    body = post(server, top="3").json()
    assert (body["query"], body["model"]) == ("en.wav", "compact")
    assert [(one["folder"], one["cosine"]) for one in body["results"]] == [(folder, 1)]
    # It was kept for the index, and is not a file of the result.
    assert sent["embedding"] is None and sent["embedding_url"] is None
    assert (server.outputs / folder / ".embedding.npy").is_file()
    assert get(server, f"/file=outputs/{folder}/.embedding.npy").status_code == 404
    count = 'front="api",kind="similar",status="200"'
    assert count in get(server, "/metrics").text


def test_outliers_are_told_worst_first(stocked):
    server, folders = stocked
    body = get(server, "/api/outliers?model=somebody/else").json()
    assert list(body)[:4] == ["model", "count", "scores", "outliers"]
    assert (body["model"], body["count"]) == ("somebody/else", 25)
    assert body["scores"].keys() == set(folders)
    worst = body["outliers"][0]
    assert list(worst) == ["folder", "name", "score", "norm", "reasons"]
    assert worst["folder"] == folders[4] and worst["reasons"] == ["far_from_neighbours"]
    assert (body["norm_range"], body["article_range"]) == (None, [1.8, 2.2])


def test_what_cannot_be_compared_is_told(stocked, subtests):
    server, folders = stocked
    without = past.save(server.outputs, timestamp=moment(100))
    bad = past.save(server.outputs, kept=np.full(8, np.nan, np.float32), timestamp=moment(101))
    for path, status, code in [
        ("/api/similar/outputs_20200101_000000", 404, "not_found"),
        (f"/api/similar/{without}", 404, "no_embedding"),
        (f"/api/similar/{bad}", 422, "embedding_unusable"),
        (f"/api/similar/{folders[0]}?top=0", 400, "bad_field"),
        (f"/api/similar/{folders[0]}?top=many", 400, "bad_field"),
        ("/api/outliers?model=nobody/nothing", 404, "no_embeddings_of_model"),
    ]:
        with subtests.test(path=path):
            answer = get(server, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert answer.json()["error"]["hint"]
    for fields in ({"top": "0"}, {"top": "x"}, {"top": "1001"}):
        with subtests.test(fields=fields):
            assert post(server, **fields).json()["error"]["code"] == "bad_field"
    with subtests.test("no recording"):
        answer = requests.post(f"{server.url}/api/similar", data={"top": "1"}, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_audio")


def test_a_deleted_result_is_no_longer_found(stocked):
    server, folders = stocked
    there = get(server, f"/api/similar/{folders[0]}").json()["results"]
    gone = there[1]["folder"]
    assert requests.delete(f"{server.url}/api/history/{gone}", timeout=30).status_code == 200
    found = get(server, f"/api/similar/{folders[0]}").json()["results"]
    assert gone not in [one["folder"] for one in found]
    assert [one["folder"] for one in found][:9] == [
        one["folder"] for one in there if one["folder"] != gone
    ]
    assert get(server, f"/api/similar/{gone}").json()["error"]["code"] == "not_found"


def test_without_an_index_nothing_is_kept(start_server):
    server = start_server("--model", "compact", "--no-index")
    server.wait_ready()
    with EXAMPLE.open("rb") as file:
        sent = requests.post(f"{server.url}/api/predict", files={"audio": file}, timeout=60).json()
    folder = sent["output_dir"].removeprefix("outputs/")
    names = {path.name for path in (server.outputs / folder).iterdir()}
    assert names == {"result.json", "processed_audio.wav"}
    assert post(server).json()["error"]["code"] == "no_embeddings"
    assert get(server, "/api/outliers").json()["error"]["code"] == "no_embeddings"
    assert not list(server.outputs.glob(".vectors-*"))


def test_too_few_recordings_are_told(start_server):
    server = start_server("--model", "compact")
    for i in range(3):
        past.save(server.outputs, kept=crowd(1)[0], timestamp=moment(i))
    error = get(server, "/api/outliers").json()["error"]
    assert error["code"] == "too_few_embeddings" and str(MIN_RECORDINGS) in error["message"]
