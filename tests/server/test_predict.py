"""Reading of recordings and making of answers: nothing holds up other callers, nothing twice."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.synthetic_audio import speechlike, write_soundfile

UPLOAD_BYTES = 100_000_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "test.wav"
    return write_soundfile(path, speechlike(2), 16_000, "WAV", "PCM_16")


def post(server, recording: Path, **fields: str) -> requests.Response:
    files = {"audio": recording.read_bytes()}
    return requests.post(f"{server.url}/api/predict", files=files, data=fields, timeout=60)


# --- forms ----------------------------------------------------------------------------------------


def test_a_field_that_comes_twice_is_named(server, recording, subtests):
    for field, value in [
        ("audio", ("b.wav", b"RIFF")),
        ("granularity", (None, "frame")),
        ("extract_embedding", (None, "true")),
        ("whatever", (None, "x")),
    ]:
        with subtests.test(field=field):
            audio = ("audio", ("a.wav", recording.read_bytes()))
            twice = [(field, value)] * (1 if field == "audio" else 2)
            response = requests.post(f"{server.url}/api/predict", files=[audio, *twice], timeout=30)
            assert response.status_code == 400
            error = response.json()["error"]
            assert error["code"] == "bad_field" and field in error["message"]


def test_a_file_for_a_word_is_a_bad_value(server, recording):
    content = recording.read_bytes()
    files = {"audio": ("a.wav", content), "granularity": ("utterance.txt", b"utterance")}
    response = requests.post(f"{server.url}/api/predict", files=files, timeout=30)
    assert response.status_code == 400 and "granularity" in response.json()["error"]["message"]


def test_a_body_that_is_no_form_has_no_audio(server, subtests):
    for kind in ["application/x-www-form-urlencoded", "text/plain"]:
        with subtests.test(kind=kind):
            response = requests.post(
                f"{server.url}/api/predict",
                data="audio=x",
                headers={"Content-Type": kind},
                timeout=10,
            )
            assert response.status_code == 400 and response.json()["error"]["code"] == "no_audio"


def classic(server, body: str) -> requests.Response:
    return requests.post(
        f"{server.url}/api/predict",
        data=body,
        headers={"Content-Type": "application/json"},
        timeout=60,
    )


def test_every_writing_of_the_classic_json_is_read(server, recording):
    content = base64.b64encode(recording.read_bytes()).decode()
    assert "/" in content and "+" in content
    url = f"data:audio/wav;base64,{content}"
    for body in (
        json.dumps({"data": [url]}),
        json.dumps({"data": [{"name": "a.wav", "data": url}, "utterance", False]}),
        # Another member, which also looks like one, before it.
        json.dumps({"fn": "x;base64,y", "data": [{"name": ";base64,", "data": url}]}),
        json.dumps({"data": [url]}).replace("/", "\\/"),
        json.dumps({"data": [url]}).replace("+", "\\u002b"),
        json.dumps({"data": [url]}).replace(";base64,", "\\u003bbase64,"),
        json.dumps({"data": [url, "frame"], "event": ";base64,"}, indent=2),
    ):
        answer = classic(server, body)
        assert answer.status_code == 200, (body[:80], answer.text[:300])
        assert answer.json()["data"][0]["source"]["bytes"] == recording.stat().st_size


def test_what_is_no_base64_is_refused(server, subtests):
    for content in [
        "",
        "A",
        "AAA",
        "AA==AAAA",
        "AAAA AAAA",
        "AAAA\\n",
        "ÄÄÄÄ",
        "A" * (1 << 20) + "=",
    ]:
        with subtests.test(content=content[:20]):
            answer = classic(server, json.dumps({"data": [f"data:audio/wav;base64,{content}"]}))
            assert answer.status_code in (400, 415, 422)
            if content:
                assert answer.json()["error"]["code"] == "bad_field"


# --- others do not wait ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> dict[str, Path]:
    """What 100 MB are in both forms; no sound, so that only reading takes time."""
    folder = tmp_path_factory.mktemp("large")
    content = bytes(range(1, 251)) * (UPLOAD_BYTES // 250)
    (folder / "form").write_bytes(content)
    with (folder / "json").open("wb") as file:
        file.write(b'{"data": ["data:audio/wav;base64,' + base64.b64encode(content) + b'"]}')
    return {"form": folder / "form", "json": folder / "json"}


@pytest.mark.parametrize("form", ["form", "json"])
def test_other_callers_are_answered_during_a_large_upload(server, large, form):
    body = {
        "form": ["-F", f"audio=@{large['form']}"],
        "json": ["--data-binary", f"@{large['json']}", "-H", "Content-Type: application/json"],
    }[form]
    # In a process of its own, so that sending does not slow the asking.
    command = ["curl", "-s", "-H", "Expect:", *body, f"{server.url}/api/predict"]
    answered, longest_s = 0, 0.0
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as upload,
        requests.Session() as session,
    ):
        while upload.poll() is None:
            began = time.monotonic()
            assert session.get(f"{server.url}/health", timeout=30).status_code == 200
            longest_s = max(longest_s, time.monotonic() - began)
            answered += upload.poll() is None
        assert upload.stdout is not None
        assert json.loads(upload.stdout.read())["error"]["code"] == "cannot_decode"
    # On an idle machine about 100, the longest 16 ms (form) and 26 ms (JSON).
    assert answered >= 5
    assert longest_s < 1.0


def test_an_answer_is_made_once(server, recording):
    answer = post(server, recording, granularity="frame").content
    folder = Path(json.loads(answer)["output_dir"]).name
    stored = (server.outputs / folder / "result.json").read_bytes()
    assert answer.startswith(stored.rstrip().removesuffix(b"}"))


# --- figures --------------------------------------------------------------------------------------


def counted(server) -> Counter[tuple[str, ...]]:
    """Requests by front end, kind and status; audio seconds by front end."""
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = one.labels
            if one.name == "emotion2vec_requests_total":
                found["requests", labels["front"], labels["kind"], labels["status"]] = one.value
            elif one.name == "emotion2vec_errors_total":
                found["errors", labels["front"], labels["code"]] = one.value
            elif one.name == "emotion2vec_audio_seconds_total":
                found["audio", labels["front"]] = one.value
            elif one.name == "emotion2vec_request_seconds_count":
                found["timed", labels["front"], labels["kind"]] = one.value
    return found


@pytest.fixture(scope="module")
def quiet(server):
    """The shared server once it has answered everybody: from now on nobody else asks it."""
    deadline = time.monotonic() + 60
    while "\nemotion2vec_requests_inside 0.0" not in requests.get(f"{server.url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return server


def test_each_front_end_counts_under_its_own_label(quiet, recording):
    from gradio_client import Client, handle_file

    before = counted(quiet)
    assert post(quiet, recording).status_code == 200
    assert counted(quiet) - before == {
        ("requests", "api", "predict", "200"): 1,
        ("timed", "api", "predict"): 1,
        ("audio", "api"): 2,
    }
    before = counted(quiet)
    client = Client(quiet.url, verbose=False)
    assert client.predict(handle_file(recording), api_name="/predict")["emotion"]
    client.close()
    assert counted(quiet) - before == {
        ("requests", "gradio", "predict", "200"): 1,
        ("timed", "gradio", "predict"): 1,
        ("audio", "gradio"): 2,
    }
    before = counted(quiet)
    files = {"audio": recording.read_bytes()}
    requests.post(f"{quiet.url}/api/robustness", files=files, timeout=120).raise_for_status()
    assert counted(quiet) - before == {
        ("requests", "api", "robustness", "200"): 1,
        ("timed", "api", "robustness"): 1,
        ("audio", "api"): 2,
    }


def test_a_failure_is_counted_once(quiet, tmp_path, subtests):
    for fields, code, status in [
        ({"extract_embedding": "perhaps"}, "bad_field", "400"),  # before the recogniser
        ({"granularity": "word"}, "bad_field", "400"),  # in it
        ({}, "cannot_decode", "415"),
    ]:
        with subtests.test(fields=fields):
            path = tmp_path / "a.wav"
            path.write_bytes(b"no sound")
            before = counted(quiet)
            assert post(quiet, path, **fields).status_code == int(status)
            assert counted(quiet) - before == {
                ("requests", "api", "predict", status): 1,
                ("errors", "api", code): 1,
            }


def test_what_recognises_nothing_is_not_counted(quiet):
    before = counted(quiet)
    for path in ("/nothing", "/result/outputs_20200101_000000", "/api/history?limit=x"):
        assert requests.get(quiet.url + path, timeout=10).status_code in (400, 404)
    assert requests.get(f"{quiet.url}/api/predict", timeout=10).status_code == 405
    assert counted(quiet) == before


def test_callers_that_leave_are_no_errors(quiet, tmp_path):
    path = write_soundfile(tmp_path / "long.flac", speechlike(1200), 16_000, "FLAC", "PCM_16")
    before = counted(quiet)
    command = ["curl", "-s", "-F", f"audio=@{path}", f"{quiet.url}/api/predict"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as caller:
        while "\nemotion2vec_requests_inside 1.0" not in requests.get(f"{quiet.url}/metrics").text:
            assert caller.poll() is None
            time.sleep(0.05)
        caller.kill()
    deadline = time.monotonic() + 30
    while not (found := counted(quiet) - before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == {("requests", "api", "predict", "499"): 1}
