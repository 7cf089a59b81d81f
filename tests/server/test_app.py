"""HTTP as the contract writes it: a real server, real curl, real files."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
import wave
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from benchmarks.synthetic_audio import speechlike, write_av, write_soundfile
from emotion2vec_ui.labels import EMOTIONS


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "test.wav"
    return write_soundfile(path, speechlike(3, 44100), 44100, "WAV", "PCM_16")


def post(server, path: Path, **fields: str) -> requests.Response:
    with path.open("rb") as file:
        return requests.post(
            f"{server.url}/api/predict/", files={"audio": file}, data=fields, timeout=60
        )


def assert_error(response: requests.Response, status: int, code: str) -> dict[str, str]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "hint"}
    assert body["error"]["code"] == code
    # Nothing of the host: no folder, no class, no traceback.
    assert not any(word in response.text for word in ("/tmp/", "Traceback", "emotion2vec_ui."))
    return body["error"]


def assert_result(report: dict) -> None:
    assert list(report)[:5] == ["emotion", "confidence", "scores", "granularity", "timestamp"]
    assert list(report["scores"]) == list(EMOTIONS)
    assert sum(report["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert report["confidence"] == max(report["scores"].values())
    assert report["scores"][report["emotion"]] == report["confidence"]


def test_the_contracts_curl_word_for_word(server, recording):
    port = urlsplit(server.url).port
    command = (
        f'curl -X POST "http://localhost:{port}/api/predict/" '
        '-H "Content-Type: multipart/form-data" -F "audio=@test.wav" '
        '-F "granularity=utterance" -F "extract_embedding=true"'
    )
    answer = subprocess.run(
        command, shell=True, cwd=recording.parent, capture_output=True, check=True
    )
    report = json.loads(answer.stdout)
    assert_result(report)
    embedding = np.load(server.outputs / Path(report["output_dir"]).name / "embedding.npy")
    assert list(embedding.shape) == report["embedding"]["shape"]
    assert np.linalg.norm(embedding) == pytest.approx(report["embedding"]["norm"], abs=1e-4)


def test_the_contracts_script_word_for_word(server, recording):
    with recording.open("rb") as f:
        report = requests.post(
            f"{server.url}/api/predict/",
            files={"audio": f},
            data={"granularity": "utterance"},
            timeout=60,
        ).json()
    assert_result(report)
    assert report["embedding"] is None and report["embedding_url"] is None
    assert report["source"]["name"] == "test.wav" and report["source"]["sample_rate"] == 44100
    assert report["model"]["id"] == "compact"


def test_the_files_are_served_as_they_lie_on_disk(server, recording):
    report = post(server, recording, extract_embedding="true").json()
    folder = server.outputs / Path(report["output_dir"]).name
    assert report["output_dir"] == f"outputs/{folder.name}"
    for key, name in (
        ("result_url", "result.json"),
        ("audio_url", "processed_audio.wav"),
        ("embedding_url", "embedding.npy"),
    ):
        assert report[key] == f"/file=outputs/{folder.name}/{name}"
        response = requests.get(server.url + report[key], timeout=10)
        assert response.status_code == 200 and response.content == (folder / name).read_bytes()
    saved = json.loads((folder / "result.json").read_text("utf-8"))
    extra = {"output_dir", "result_url", "audio_url", "embedding_url"}
    assert saved == {key: value for key, value in report.items() if key not in extra}
    with wave.open(str(folder / "processed_audio.wav")) as heard:
        assert (heard.getframerate(), heard.getnchannels(), heard.getsampwidth()) == (16000, 1, 2)
        assert heard.getnframes() == 48000


def test_frame_granularity(server, recording):
    report = post(server, recording, granularity="frame", extract_embedding="true").json()
    frames = (48000 - 400) // 320 + 1
    scores = np.array(report["scores"])
    assert scores.shape == (frames, 9) and report["frame_rate"] == 50
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)
    assert report["labels"] == list(EMOTIONS)
    assert report["emotion"] == max(report["utterance_scores"], key=report["utterance_scores"].get)
    assert report["embedding"]["shape"][0] == frames
    segments = report["segments"]
    assert segments[0]["start_s"] == 0 and segments[-1]["end_s"] == pytest.approx(3.0, abs=0.03)
    assert report["weighted"]["scores"].keys() == report["utterance_scores"].keys()


def test_both_granularities_agree_on_the_utterance(server, recording):
    utterance = post(server, recording).json()
    frame = post(server, recording, granularity="frame").json()
    assert utterance["scores"] == frame["utterance_scores"]


def test_gradios_classic_json(server, recording):
    data = "data:audio/wav;base64," + base64.b64encode(recording.read_bytes()).decode()
    body = {"data": [{"name": "a.wav", "data": data}, "utterance", True]}
    answer = requests.post(f"{server.url}/api/predict", json=body, timeout=60).json()
    assert answer["duration"] > 0
    (report,) = answer["data"]
    assert_result(report)
    assert report["source"]["name"] == "a.wav" and report["embedding_url"]


def test_with_and_without_the_slash(server, recording, subtests):
    for slash in ["", "/"]:
        with subtests.test(slash=slash):
            with recording.open("rb") as file:
                url = f"{server.url}/api/predict{slash}"
                response = requests.post(
                    url, files={"audio": file}, allow_redirects=False, timeout=60
                )
            assert response.status_code == 200


def test_gradio_client(server, recording):
    from gradio_client import Client, handle_file

    client = Client(server.url, verbose=False)
    report = client.predict(handle_file(str(recording)), "utterance", True, api_name="/predict")
    assert_result(report)
    client.close()


def test_a_webm_from_a_browser(server, tmp_path):
    path = write_av(tmp_path / "a.webm", speechlike(2, 48000), 48000, "webm", "libopus")
    assert post(server, path).json()["source"]["codec"] == "opus"


def test_real_speech(server):
    data = Path(__file__).resolve().parents[2].parent / "shared/data/ser"
    clips = sorted(data.glob("*/*/*.opus"))[::1500]
    if not clips:
        pytest.skip("no folder of real recordings beside the project")
    for clip in clips:
        assert_result(post(server, clip).json())


def test_robustness(server, recording):
    def ask(**fields: str) -> requests.Response:
        with recording.open("rb") as file:
            return requests.post(
                f"{server.url}/api/robustness", files={"audio": file}, data=fields, timeout=120
            )

    report = ask(seed="3").json()
    assert report == ask(seed="3").json()
    clean = report["outcomes"][0]
    assert clean["condition"]["code"] == "clean" and not clean["flipped"]
    # The clean condition is the recording as it is.
    predicted = post(server, recording).json()["scores"]
    assert clean["scores"] == pytest.approx(predicted, abs=1e-5)
    assert_error(ask(seed="-1"), 400, "bad_field")


# --- errors -------------------------------------------------------------------------------------


def test_no_audio(server):
    response = requests.post(f"{server.url}/api/predict", data={"granularity": "frame"}, timeout=10)
    assert_error(response, 400, "no_audio")


def test_a_bad_field_names_what_is_allowed(server, recording, subtests):
    for field, value, allowed in [
        ("granularity", "word", "utterance, frame"),
        ("extract_embedding", "perhaps", "true, false"),
    ]:
        with subtests.test(field=field):
            error = assert_error(post(server, recording, **{field: value}), 400, "bad_field")
            assert (
                field in error["message"]
                and value in error["message"]
                and allowed in error["message"]
            )


def test_json_that_is_no_request(server, subtests):
    for body in [
        b"",
        b"{}",
        b'{"data": []}',
        b'{"data": 5}',
        b"[1]",
        b"{",
        b'{"data": [null]}',
        b"[" * 5000,
    ]:
        with subtests.test(body=body):
            response = requests.post(
                f"{server.url}/api/predict",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=10,
            )
            assert response.status_code == 400 and set(response.json()) == {"error"}


def test_a_path_or_address_is_never_followed(server, subtests):
    for value in ["/etc/passwd", "http://127.0.0.1:1/a.wav", "file:///etc/passwd"]:
        with subtests.test(value=value):
            for sound in (value, {"name": value, "data": value}, {"path": value}):
                response = requests.post(
                    f"{server.url}/api/predict", json={"data": [sound, "utterance"]}, timeout=10
                )
                assert_error(response, 400, "bad_field")


def test_a_text_file_named_wav(server, tmp_path):
    path = tmp_path / "notes.wav"
    path.write_text("not audio " * 100)
    error = assert_error(post(server, path), 415, "cannot_decode")
    assert "libsndfile" in error["message"] and "FFmpeg" in error["message"]


def test_recordings_that_cannot_be_judged(server, tmp_path, subtests):
    for samples, code in [
        (np.zeros(0), "audio_empty"),
        (np.zeros(16000), "audio_silent"),
        (np.ones(100), "audio_silent"),
        (speechlike(0.02), "audio_too_short"),
        (np.r_[speechlike(1), np.nan], "audio_not_finite"),
    ]:
        with subtests.test(code=code):
            path = write_soundfile(tmp_path / "a.wav", samples, 16000, "WAV", "FLOAT")
            assert_error(post(server, path), 422, code)


def test_the_callers_language(server, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"")
    with path.open("rb") as file:
        response = requests.post(
            f"{server.url}/api/predict",
            files={"audio": ("a.wav", file)},
            headers={"Accept-Language": "zh-CN,zh;q=0.9"},
            timeout=10,
        )
    assert "采样" in response.json()["error"]["message"]


@pytest.fixture(scope="module")
def small_server(start_server):
    server = start_server(
        "--model", "compact", "--max-upload-mb", "0.5", "--max-duration-s", "4", "--max-queue", "1"
    )
    server.wait_ready()
    return server


def test_too_many_bytes(small_server, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(600_000))
    assert_error(post(small_server, path), 413, "upload_too_large")


def test_too_many_bytes_are_refused_unread(small_server):
    # The header promises a gigabyte; none of it is sent, and the answer comes all the same.
    parts = urlsplit(small_server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_too_many_bytes_without_a_length_are_counted(small_server):
    def chunks():
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(10_000)
        yield b"\r\n--b--\r\n"

    response = requests.post(
        f"{small_server.url}/api/predict",
        data=chunks(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        timeout=10,
    )
    assert_error(response, 413, "upload_too_large")


def test_too_long(small_server, tmp_path):
    path = write_soundfile(tmp_path / "a.flac", speechlike(4.1), 16000, "FLAC", "PCM_16")
    assert_error(post(small_server, path), 413, "audio_too_long")


def test_a_full_queue_says_when_to_come_back(small_server, tmp_path):
    path = write_soundfile(tmp_path / "a.wav", speechlike(3.9), 16000, "WAV", "PCM_16")
    answers: list[requests.Response] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(post(small_server, path, granularity="frame"))
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert_error(answer, 503, "queue_full")
            assert int(answer.headers["Retry-After"]) > 0


def test_other_errors_have_the_same_body(server, subtests):
    for method, path, status in [
        ("GET", "/api/predict", 405),
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/no/page/here", 404),
        ("GET", "/file=outputs/outputs_20200101_000000/result.json", 404),
    ]:
        with subtests.test(path=path):
            response = requests.request(method, server.url + path, timeout=10)
            assert response.status_code == status and set(response.json()["error"]) == {
                "code", "message", "hint",
            }  # fmt: skip


# --- operations ---------------------------------------------------------------------------------


def test_health_and_ready(server):
    assert requests.get(f"{server.url}/health", timeout=5).json()["status"] == "ok"
    ready = requests.get(f"{server.url}/ready", timeout=5)
    assert ready.status_code == 200 and ready.json()["model"] == "compact"


def test_metrics_count_requests(server, recording):
    def value(name: str) -> float:
        text = requests.get(f"{server.url}/metrics", timeout=5).text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return float(lines[0].split()[-1])

    before = value("emotion2vec_audio_seconds_total")
    post(server, recording)
    assert value("emotion2vec_audio_seconds_total") == pytest.approx(before + 3.0)
    assert value('emotion2vec_model_state{state="ready"}') == 1.0
    assert value("process_resident_memory_bytes") > 1e8


def test_docs_need_no_internet(server):
    page = requests.get(f"{server.url}/docs", timeout=5).text
    addresses = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert addresses and not any(address.startswith(("http", "//")) for address in addresses)
    for address in addresses:
        assert requests.get(server.url + address, timeout=5).status_code == 200
    paths = requests.get(f"{server.url}/openapi.json", timeout=5).json()["paths"]
    assert set(paths) >= {"/api/predict", "/health", "/ready", "/metrics"}


def test_the_processing_log(server, recording):
    log = post(server, recording).json()["log"]
    assert log[0] == "Audio info: duration=3.0s, sr=44100"
    assert log[1] == "Warning: Resampling from 44100 to 16000"
    assert any(line.startswith("Inference time: ") and line.endswith("s") for line in log)
    assert not any(line.startswith("Model loaded in ") for line in log)


def test_what_comes_early_is_answered_and_what_runs_at_the_end_is_finished(start_server, recording):
    server = start_server("--model", "compact")
    report = post(server, recording).json()
    assert_result(report)
    if report["timing"]["model_load_s"]:
        assert any(line.startswith("Model loaded in ") for line in report["log"])
    server.wait_ready()
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(server, recording)))
    thread.start()
    time.sleep(0.05)
    server.process.terminate()
    thread.join(30)
    assert server.process.wait(30) is not None
    assert answers and answers[0].status_code in (200, 503)


def test_a_taken_port_is_told_with_its_holder(server, start_server):
    port = str(urlsplit(server.url).port)
    second = start_server("--server-port", port, wait=False)
    assert second.process.wait(30) == 1
    text = second.log.read_text()
    assert port in text and f"pid {server.process.pid}" in text and "--server-port" in text
