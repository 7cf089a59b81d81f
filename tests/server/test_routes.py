"""What holds for every route: methods, limits, compression."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from urllib.parse import urlsplit

import pytest
import requests
from fastapi import FastAPI, Request
from starlette.routing import Route

from emotion2vec_ui.records import store
from emotion2vec_ui.server.access import (
    FORM_OVERHEAD_BYTES,
    MAX_MESSAGE_BYTES,
    Guard,
    Limits,
    limited,
)
from emotion2vec_ui.server.app import create_api
from emotion2vec_ui.settings import Settings
from tests import past

# --- methods --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(server):
    """One of some results."""
    made = [past.save(server.outputs, timestamp="2003-01-01 10:00:00") for _ in range(20)]
    yield made[0]
    for one in made:
        store.discard(server.outputs / one)


def test_another_method_is_told_the_right_ones(server, subtests):
    for method, path, allow in [
        ("GET", "/api/predict", "OPTIONS, POST"),
        ("PUT", "/api/predict/", "OPTIONS, POST"),
        ("HEAD", "/api/predict", "OPTIONS, POST"),
        ("GET", "/api/robustness", "OPTIONS, POST"),
        ("PATCH", "/api/history", "GET, HEAD, OPTIONS"),
        ("POST", "/api/history/outputs_20200101_000000", "DELETE, GET, HEAD, OPTIONS"),
        ("POST", "/result/outputs_20200101_000000.csv", "GET, HEAD, OPTIONS"),
        ("DELETE", "/health", "GET, HEAD, OPTIONS"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("PUT", "/file=outputs/outputs_20200101_000000/result.json", "GET, HEAD, OPTIONS"),
    ]:
        with subtests.test(method=method, path=path):
            response = requests.request(method, server.url + path, timeout=10)
            assert response.status_code == 405 and response.headers["Allow"] == allow
            if method != "HEAD":
                assert set(response.json()["error"]) == {"code", "message", "hint"}
            options = requests.options(server.url + path, timeout=10)
            assert options.status_code == 204 and options.headers["Allow"] == allow
            assert options.content == b""


def test_unknown_paths_are_unknown_to_every_method(server, subtests):
    for path in ["/api/nothing", "/api/history/a/b", "/result/a/b", "/file=x"]:
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]:
            with subtests.test(method=method, path=path):
                response = requests.request(method, server.url + path, timeout=10)
                assert response.status_code == 404
                assert response.json()["error"]["code"] == "not_found"


def test_head_is_get_without_its_body(server, folder, subtests):
    for path in [
        "/health",
        "/ready",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/api/history",
        "/api/history.csv",
        "/api/history/{folder}",
        "/result/{folder}",
        "/result/{folder}.csv",
        "/result/{folder}.zip",
        "/file=outputs/{folder}/result.json",
        "/file=outputs/{folder}/processed_audio.wav",
    ]:
        with subtests.test(path=path):
            url = server.url + path.format(folder=folder)
            plain = {"Accept-Encoding": "identity"}
            head = requests.head(url, headers=plain, timeout=10)
            get = requests.get(url, headers=plain, timeout=10)
            assert head.status_code == get.status_code == 200 and head.content == b""
            assert head.headers["content-type"] == get.headers["content-type"]
            if path not in ("/metrics", "/ready"):  # which change by themselves
                assert head.headers.get("content-length") == get.headers.get("content-length")
            assert head.headers.get("content-disposition") == get.headers.get("content-disposition")


# --- limits ---------------------------------------------------------------------------------------


def ask(guard: Guard, path: str, size: int, *, declared: bool, kind: str = "text/plain") -> int:
    """The status that a POST of so many bytes gets, in process."""
    headers = [(b"host", b"localhost"), (b"content-type", kind.encode())]
    if declared:
        headers.append((b"content-length", str(size).encode()))
    left, statuses = size, []

    async def receive() -> dict[str, object]:
        nonlocal left
        piece = min(left, 1 << 20)
        left -= piece
        return {"type": "http.request", "body": bytes(piece), "more_body": left > 0}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(guard(scope, receive, send))
    return statuses[0]


@pytest.fixture
def guard() -> Guard:
    app = FastAPI()

    async def size(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    async def large(request: Request) -> dict[str, int]:
        return await size(request)

    async def own(request: Request) -> dict[str, int]:
        return await size(request)

    app.post("/undeclared")(size)
    app.post("/recording")(limited(Limits(body="recording", counted=True))(large))
    app.post("/own")(limited(Limits(body="own"))(own))
    inner = FastAPI()
    inner.post("/page")(size)
    app.mount("/mounted", inner)
    return Guard(app, Settings(max_upload_mb=6.0, rate_limit=5))


def test_a_route_that_declares_nothing_gets_the_small_limit(guard, subtests):
    for path in ["/undeclared", "/mounted/page"]:
        for declared in [True, False]:
            with subtests.test(path=path, declared=declared):
                assert ask(guard, path, MAX_MESSAGE_BYTES, declared=declared) == 200
                assert ask(guard, path, MAX_MESSAGE_BYTES + 1, declared=declared) == 413


def test_even_a_path_without_a_route_has_the_small_limit(guard):
    assert ask(guard, "/nowhere", MAX_MESSAGE_BYTES + 1, declared=True) == 413


def test_a_route_for_recordings_takes_as_much_as_a_recording_may_have(guard, subtests):
    for declared in [True, False]:
        with subtests.test(declared=declared):
            most = 6_000_000 + FORM_OVERHEAD_BYTES
            assert ask(guard, "/recording", most, declared=declared) == 200
            assert ask(guard, "/recording", most + 1, declared=declared) == 413


def test_a_recording_in_base64_may_be_a_third_larger(guard):
    size = 8_000_000
    assert ask(guard, "/recording", size, declared=True) == 413
    assert ask(guard, "/recording", size, declared=True, kind="application/json") == 200


def test_a_route_that_limits_itself_is_left_alone(guard):
    assert ask(guard, "/own", 9_000_000, declared=True) == 200


def test_only_declared_routes_count_as_recognitions(guard):
    assert [ask(guard, "/undeclared", 1, declared=True) for _ in range(7)] == [200] * 7
    assert [ask(guard, "/recording", 1, declared=True) for _ in range(6)] == [200] * 5 + [429]
    assert ask(guard, "/undeclared", 1, declared=True) == 200


def test_only_the_routes_that_take_recordings_have_limits_of_their_own(tmp_path):
    app = create_api(Settings(model="compact", outputs=tmp_path))
    app.state.service.decoder.stop()
    large = {
        route.path
        for route in app.routes
        if isinstance(route, Route) and getattr(route.endpoint, "limits", Limits()) != Limits()
    }
    assert large == {
        "/api/predict", "/api/predict/", "/api/robustness", "/api/similar", "/api/jobs",
        "/api/jobs/", "/api/subclasses",
    }  # fmt: skip


# --- compression ----------------------------------------------------------------------------------


def raw(url: str, **headers: str) -> requests.Response:
    """As it came over the wire: `raw.read` does not unpack."""
    headers = {"Accept-Encoding": "gzip", **headers}
    return requests.get(url, headers=headers, stream=True, timeout=30)


def test_text_is_compressed(server, folder, subtests):
    for path in [
        "/",
        "/openapi.json",
        "/api/history",
        "/api/history.csv",
        "/result/{folder}",
        "/file=outputs/{folder}/result.json",
    ]:
        with subtests.test(path=path):
            url = server.url + path.format(folder=folder)
            with raw(url) as packed:
                assert packed.headers["content-encoding"] == "gzip"
                assert "accept-encoding" in packed.headers["vary"].lower()
                content = packed.raw.read(decode_content=False)
            plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=30)
            assert "content-encoding" not in plain.headers
            assert len(content) < len(plain.content) / 2
            if path.startswith(("/result", "/file", "/openapi")):
                assert gzip.decompress(content) == plain.content


def test_sound_and_short_answers_are_not(server, folder, subtests):
    for path in ["/file=outputs/{folder}/processed_audio.wav", "/health"]:
        url = server.url + path.format(folder=folder)
        with subtests.test(path=path), raw(url) as response:
            assert response.status_code == 200 and "content-encoding" not in response.headers


def test_events_come_as_they_happen(server):
    with raw(f"{server.url}/gradio_api/heartbeat/x", Accept="text/event-stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.headers
        began = time.monotonic()
        assert next(stream.iter_content(8))
        assert time.monotonic() - began < 20


def test_a_part_of_a_file_is_a_part_of_the_file(server, folder):
    url = f"{server.url}/file=outputs/{folder}/result.json"
    whole = (server.outputs / folder / "result.json").read_bytes()
    with raw(url, Range="bytes=10-1999") as part:
        assert part.status_code == 206 and "content-encoding" not in part.headers
        assert part.raw.read(decode_content=False) == whole[10:2000]


# --- connections ----------------------------------------------------------------------------------


def test_an_answer_does_not_wait_for_the_clients_acknowledgement(server):
    # Linux delays it by 40 ms; a kept connection without TCP_NODELAY waits for it each time.
    address = urlsplit(server.url)
    taken_s = []
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        for _ in range(40):
            began = time.monotonic()
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            taken_s.append(time.monotonic() - began)
    # The first ones are acknowledged at once; the fastest of the others tells.
    assert min(taken_s[20:]) < 0.02
