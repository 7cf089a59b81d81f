"""Input that nobody meant well: never a 500, a crash, a hang or a file left behind.

FUZZ_FACTOR=20 makes every part twenty times longer (hypothesis, schemathesis).
"""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.audio.decoding import TIMEOUT_BASE_S, TIMEOUT_PER_MB_S, WORKERS, Decoder
from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.errors import EmotionError, InputError, ShuttingDown
from tests import damage
from tests.conftest import ROOT, Server, clean_environment

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
REFUSALS = {400, 413, 415, 422}
HANG_S = 10.0
GIVEN_UP_S = 2 * (TIMEOUT_BASE_S + TIMEOUT_PER_MB_S)

fuzz = settings(
    max_examples=60 * FACTOR,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def damaged() -> list[damage.Damaged]:
    return list(damage.corpus())


def left_behind(folder: Path) -> list[str]:
    """Files that requests left; Gradio empties its cache by age, and .ses is onnxruntime's."""
    kept = ("gradio", "pymp-", ".ses")
    return [path.name for path in folder.iterdir() if not path.name.startswith(kept)]


def test_there_are_at_least_500_and_each_is_another(damaged):
    assert len(damaged) >= 500
    assert len({item.name for item in damaged}) == len(damaged)
    assert len({item.content for item in damaged}) > 500


@pytest.mark.slow
def test_the_decoder_survives_every_damaged_file(damaged, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    decoder = Decoder(3600.0)
    uploads = tmp_path / "uploads"
    uploads.mkdir()

    def decode(number: int, item: damage.Damaged) -> str | None:
        path = uploads / str(number)
        path.write_bytes(item.content)
        began = time.monotonic()
        try:
            clip = decoder(path, item.name)
        except InputError as error:
            outcome = error.code
            assert error.status in REFUSALS
            assert str(tmp_path) not in str(error)
        except EmotionError as error:
            return f"{item.name}: {error}"
        else:
            outcome = "decoded"
            assert isinstance(clip, Clip) and len(clip.samples) >= 400
            assert np.isfinite(clip.samples).all() and math.isfinite(clip.source.duration_s)
            json.dumps(asdict(clip.quality), allow_nan=False)
        finally:
            path.unlink()
        took_s = time.monotonic() - began
        # On a machine of its own; beside other work each decoder gets its share of a core.
        if took_s > HANG_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
            return f"{item.name}: {outcome} only after {took_s:.1f} s"
        return None

    try:
        # As many at a time as there are workers, so that none waits for another.
        with ThreadPoolExecutor(WORKERS) as threads:
            problems = [*threads.map(decode, range(len(damaged)), damaged)]
    finally:
        decoder.stop()
    assert [problem for problem in problems if problem] == []
    assert left_behind(temporary) == []


def test_the_server_survives_a_sample_of_them(server, damaged):
    heavy = [item for item in damaged if "655-kHz" in item.name]
    sample = [item for item in damaged[:: max(1, 12 // FACTOR)] if item not in heavy]

    def post(item: damage.Damaged) -> tuple[str, int]:
        response = requests.post(
            f"{server.url}/api/predict", files={"audio": (item.name, item.content)}, timeout=120
        )
        if response.status_code != 200:
            assert set(response.json()) == {"error"}
        return item.name, response.status_code

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(post, sample))
    assert [answer for answer in answers if answer[1] not in {200, *REFUSALS}] == []
    # Both kinds came, or the sample would prove nothing.
    assert {status for _, status in answers} >= {200, 415}
    assert left_behind(server.temporary) == []
    assert "internal error" not in server.log.read_text(errors="replace")


# --- a decoder that dies ------------------------------------------------------------------------


def decoders(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "--multiprocessing-fork" in child.cmdline()]


def busy_decoder(server: Server) -> psutil.Process:
    """The worker that is decoding now: the one whose CPU time grows."""
    deadline = time.monotonic() + 20
    before: dict[int, float] = {}
    while time.monotonic() < deadline:
        for child in decoders(server):
            taken_s = sum(child.cpu_times()[:2])
            if taken_s - before.setdefault(child.pid, taken_s) > 0.1:
                return child
        time.sleep(0.1)
    raise AssertionError("no decoder is at work")


@pytest.mark.parametrize(
    "signal_",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        # It is waited for until the decoder's bound.
        pytest.param(signal.SIGSTOP, id="hung", marks=pytest.mark.slow),
    ],
)
def test_a_decoder_that_dies_costs_only_its_own_request(server, signal_):
    # Seconds of work in a small file, so that the worker can be met at it.
    content = damage.without_length(damage.flac_silence(0.5, 1, 48_000))
    answers: list[requests.Response] = []

    def post() -> None:
        files = {"audio": ("a.flac", content)}
        answers.append(requests.post(f"{server.url}/api/predict", files=files, timeout=120))

    thread = threading.Thread(target=post)
    thread.start()
    busy_decoder(server).send_signal(signal_)
    good = damage.wav((speechlike(1) * 32767).astype("<i2").tobytes())
    meanwhile = requests.post(f"{server.url}/api/predict", files={"audio": good}, timeout=60)
    assert meanwhile.status_code == 200
    # A hung one is given up after the decoder's bound, and killed.
    thread.join(GIVEN_UP_S)
    assert [answer.status_code for answer in answers] == [415]
    assert answers[0].json()["error"]["code"] == "cannot_decode"
    for _ in range(WORKERS + 1):
        after = requests.post(f"{server.url}/api/predict", files={"audio": good}, timeout=60)
        assert after.status_code == 200
    assert server.process.poll() is None
    assert left_behind(server.temporary) == []


def test_files_that_are_being_decoded_at_the_end_are_told(tmp_path):
    path = tmp_path / "long.flac"
    path.write_bytes(damage.without_length(damage.flac_silence(0.9, 1, 48_000)))
    decoder = Decoder(3600.0)
    with ThreadPoolExecutor(WORKERS + 1) as threads:
        # One more than there are workers: it waits.
        answers = [threads.submit(decoder, path, "a.flac") for _ in range(WORKERS + 1)]
        time.sleep(3)
        assert not any(answer.done() for answer in answers)
        decoder.stop()
        errors = [answer.exception(timeout=10) for answer in answers]
    with pytest.raises(ShuttingDown):
        decoder(path, "late.flac")
    assert [type(error) for error in errors] == [ShuttingDown] * (WORKERS + 1)


# --- the form and the JSON ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def short() -> bytes:
    return damage.wav((speechlike(0.1) * 32767).astype("<i2").tobytes())


@fuzz
@given(granularity=st.text(max_size=30), embedding=st.text(max_size=10), name=st.text(max_size=80))
def test_any_form_field(server, short, granularity, embedding, name):
    response = requests.post(
        f"{server.url}/api/predict",
        files={"audio": (name or "a", short)},
        data={"granularity": granularity, "extract_embedding": embedding},
        timeout=30,
    )
    assert response.status_code in {200, 400}
    if response.status_code == 400:
        assert response.json()["error"]["code"] in {"bad_field", "bad_request", "no_audio"}


texts = st.text(st.characters(), max_size=40)  # lone surrogates included: JSON can carry them
urls = st.builds(
    lambda data: "data:audio/wav;base64," + base64.b64encode(data).decode(), st.binary()
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | urls,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "data", "path", "url", "meta"]) | texts, inner)
    ),
    max_leaves=8,
)


@fuzz
@given(body=st.fixed_dictionaries({"data": anything}) | anything)
def test_any_json(server, body):
    response = requests.post(
        f"{server.url}/api/predict",
        data=json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert response.status_code in REFUSALS, response.text


@fuzz
@given(name=texts)
def test_any_name_in_json(server, short, name):
    data = "data:audio/wav;base64," + base64.b64encode(short).decode()
    response = requests.post(
        f"{server.url}/api/predict", json={"data": [{"name": name, "data": data}]}, timeout=30
    )
    assert response.status_code == 200
    shown = response.json()["data"][0]["source"]["name"]
    assert "/" not in shown and all(char >= " " for char in shown)


header_values = st.binary(max_size=60).filter(
    lambda value: b"\r" not in value and b"\n" not in value
)


@fuzz
@given(
    name=st.sampled_from(
        ["Host", "Origin", "Authorization", "Content-Type", "Accept-Language", "Content-Length",
         "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Sec-Fetch-Site", "Cookie",
         "Transfer-Encoding", "Range", "Expect"]
    ),
    value=header_values | st.sampled_from([b"http://[", b"[", b"[::", b"Basic Og==", b"-1"]),
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]),
    path=st.sampled_from(["/api/predict", "/health", "/", "/file=outputs/x/y", "/metrics"]),
)  # fmt: skip
def test_any_header(server, name, value, method, path):
    address = urlsplit(server.url)
    lines = {"Host": address.netloc.encode(), "Content-Length": b"0", name: value}
    head = f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode()
    head += b"".join(key.encode() + b": " + text + b"\r\n" for key, text in lines.items())
    with socket.create_connection((address.hostname, address.port), timeout=HANG_S) as connection:
        connection.sendall(head + b"\r\n")
        # What was promised and never sent must not be waited for here.
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert answer == b"" or 200 <= int(answer.split()[1]) < 500, answer


def test_the_openapi_schema_holds(server):
    """Every documented operation with inputs made from its schema, by schemathesis."""
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or shutil.which(
        "schemathesis"
    )
    if program is None:
        pytest.skip("schemathesis is not installed")
    # Of many recordings, or on a busy machine, these two answer 503 after 30 s: ask again.
    slow = ("/api/map", "/api/clusters")
    conforms = "status_code_conformance,response_schema_conformance"
    runs = [
        [f"--checks=not_a_server_error,{conforms}", *(f"--exclude-path={one}" for one in slow)],
        [f"--checks={conforms}", *(f"--include-path={one}" for one in slow)],
    ]
    for options in runs:
        command = [
            program, "run", f"{server.url}/openapi.json",
            *options,
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(10 * FACTOR),
            "--seed", "1",
            "--generation-database", "none",
            "--request-timeout", "60",
            "--no-color",
        ]  # fmt: skip
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120 + 120 * FACTOR,
            cwd=server.temporary.parent,
        )
        assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert server.process.poll() is None and left_behind(server.temporary) == []


# --- what an attacker tried -----------------------------------------------------------------------


def gradio_call(url: str, inputs: list) -> str:
    answer = requests.post(f"{url}/gradio_api/call/predict", json={"data": inputs}, timeout=30)
    event = answer.json()["event_id"]
    return requests.get(f"{url}/gradio_api/call/predict/{event}", timeout=60).text


def test_gradio_reads_no_file_of_the_server(server, tmp_path):
    private = write_soundfile(tmp_path / "private.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    before = {path.name for path in server.outputs.glob("outputs_*")}
    for path in (private, "/etc/passwd", "../app.py"):
        for extra in ({}, {"url": str(path)}, {"url": f"{server.url}/gradio_api/file={path}"}):
            file = {"path": str(path), "meta": {"_type": "gradio.FileData"}} | extra
            answer = gradio_call(server.url, [file, "utterance", True])
            assert answer.startswith("event: error") and "emotion" not in answer
    assert {path.name for path in server.outputs.glob("outputs_*")} == before
    copied = [path.name for path in server.temporary.rglob("*") if path.is_file()]
    assert not {"private.wav", "passwd", "app.py"} & set(copied)


def test_no_address_from_a_client_is_fetched(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
        for file in (
            {"path": address, "meta": {"_type": "gradio.FileData"}},
            {"path": "a.wav", "url": address, "meta": {"_type": "gradio.FileData"}},
        ):
            assert gradio_call(server.url, [file, "utterance", False]).startswith("event: error")
        requests.get(f"{server.url}/gradio_api/proxy={address}", timeout=10)
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()


FETCH_WITH_GRADIO = """
import asyncio, sys
import gradio.processing_utils
from emotion2vec_ui.server.app import create_app
from emotion2vec_ui.errors import BadField
from emotion2vec_ui.settings import Settings
if __name__ == "__main__":
    service = create_app(Settings(model="compact")).app.state.service
    service.decoder.stop()
    try:
        asyncio.run(gradio.processing_utils.async_ssrf_protected_download("http://x.example/", "."))
    except BadField:
        sys.exit(7)
"""


@pytest.mark.slow
def test_gradios_own_downloads_are_off(tmp_path):
    # Gradio's own protection lets public addresses through, which no test can try.
    script = tmp_path / "fetch.py"
    script.write_text(FETCH_WITH_GRADIO)
    environ = clean_environment() | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, env=environ, capture_output=True)
    assert ran.returncode == 7, ran.stderr[-2000:]


def test_gradio_allows_no_other_site_to_read(server, subtests):
    # By address: on localhost Gradio is strict of itself.
    headers = {
        "Host": "192.0.2.1",
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
    }
    for method in ["GET", "OPTIONS"]:
        for path in ["/config", "/gradio_api/info", "/gradio_api/upload"]:
            with subtests.test(path=path, method=method):
                answer = requests.request(method, server.url + path, headers=headers, timeout=10)
                names = [name.lower() for name in answer.headers]
                assert not [name for name in names if name.startswith("access-control")]


def test_a_name_that_was_rebound_to_this_machine_is_refused(server, subtests):
    for host, status in [
        ("evil.example", 403),
        ("localhost.evil.example:7860", 403),
        ("[", 403),
        ("localhost", 200),
        ("LOCALHOST:7860", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:7860", 200),
        ("192.0.2.1", 200),
    ]:
        with subtests.test(host=host):
            answer = requests.get(f"{server.url}/openapi.json", headers={"Host": host}, timeout=10)
            assert answer.status_code == status


def test_a_gradio_message_is_bounded(server):
    # Gradio reads it whole into memory and, when it is wrong, writes it whole into the log.
    body = b'{"data": ["' + b"a" * 5_000_000 + b'"]}'
    headers = {"Content-Type": "application/json"}
    sized = requests.post(
        f"{server.url}/gradio_api/call/predict", data=body, headers=headers, timeout=30
    )
    assert sized.status_code == 413
    chunks = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    unsized = requests.post(
        f"{server.url}/gradio_api/call/predict", data=chunks, headers=headers, timeout=30
    )
    assert unsized.status_code in {400, 413}


def test_a_request_forges_no_log_line(server, short):
    path = "/a%0a12:00:00 INFO forged-by-path%1b[31m"
    requests.post(server.url + path, headers={"Origin": "https://evil.example"}, timeout=10)
    data = "data:audio/wav;base64,AAAA"
    name = "a\n12:00:00 INFO forged-by-name\x1b[31m.wav"
    requests.post(
        f"{server.url}/api/predict", json={"data": [{"name": name, "data": data}]}, timeout=10
    )
    lines = server.log.read_text(errors="replace").splitlines()
    assert any("forged-by-path" in line for line in lines)
    assert any("forged-by-name" in line for line in lines)
    assert not any(line.startswith("12:00:00 INFO forged") or "\x1b" in line for line in lines)


def test_a_caller_that_leaves_while_it_uploads_is_no_internal_error(server):
    address = urlsplit(server.url)
    for kind in ("multipart/form-data; boundary=b", "application/json"):
        head = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\n--b\r\n".encode())
            time.sleep(0.2)
    time.sleep(0.3)
    assert "internal error" not in server.log.read_text(errors="replace")
    assert 'code="internal"' not in requests.get(f"{server.url}/metrics", timeout=10).text
    assert left_behind(server.temporary) == []
