"""Nothing is served without the password or key, to another site's page, or beyond the limits."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.errors import RateLimited
from emotion2vec_ui.server.access import RATE_WINDOW_S, RateLimiter

USER, PASSWORD, KEY = "operator", "correct horse", "key-two"
RATE_LIMIT = 5
"""Above what any other test of this file asks with one key."""

PROTECTED = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/file=outputs/outputs_20200101_000000/result.json"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("POST", "/api/predict"),
    ("POST", "/api/predict/"),
    ("POST", "//api/predict"),
    ("GET", "/theme.css"),
    ("GET", "/api/history"),
    ("DELETE", "/api/history/outputs_20200101_000000"),
    ("GET", "/result/outputs_20200101_000000"),
    ("GET", "/result/outputs_20200101_000000.csv"),
    ("GET", "/result/outputs_20200101_000000.zip"),
    ("OPTIONS", "/api/predict"),
    ("PATCH", "/api/predict"),
]


@pytest.fixture(scope="module")
def guarded(start_server):
    server = start_server(
        "--model", "compact", "--auth", f"{USER}:{PASSWORD}",
        "--api-key", f"key-one,{KEY},key-three,key-four,key-five",
        "--allowed-origins", "https://crm.example", "--rate-limit", str(RATE_LIMIT),
    )  # fmt: skip
    server.wait_ready()
    return server


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    return write_soundfile(path, speechlike(1), 16000, "WAV", "PCM_16").read_bytes()


def test_nothing_without_a_key(guarded, subtests):
    for headers in [
        {},
        {"Authorization": "Bearer wrong"},
        {"X-API-Key": "key"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer "},
    ]:
        for method, path in PROTECTED:
            with subtests.test(method=method, path=path, headers=headers):
                response = requests.request(method, guarded.url + path, headers=headers, timeout=10)
                assert response.status_code == 401
                assert response.json()["error"]["code"] == "unauthorized"
                assert response.headers["WWW-Authenticate"].startswith("Basic")


def test_nothing_with_a_wrong_password(guarded, subtests):
    for auth in [(USER, "wrong"), (PASSWORD, USER), ("", ""), (USER, "")]:
        with subtests.test(auth=auth):
            assert requests.get(guarded.url, auth=auth, timeout=10).status_code == 401


def test_probes_need_no_key(guarded, subtests):
    for path in ["/health", "/ready"]:
        with subtests.test(path=path):
            assert requests.get(guarded.url + path, timeout=10).status_code == 200


def test_each_way_in(guarded, recording, subtests):
    for headers, auth in [
        ({"Authorization": f"Bearer {KEY}"}, None),
        ({"X-API-Key": "key-one"}, None),
        ({}, (USER, PASSWORD)),
        ({}, ("anyone", KEY)),
    ]:
        with subtests.test(headers=headers, auth=auth):
            for path in ("/", "/docs", "/metrics", "/gradio_api/info"):
                response = requests.get(guarded.url + path, headers=headers, auth=auth, timeout=10)
                assert response.status_code == 200
            response = requests.post(
                f"{guarded.url}/api/predict",
                files={"audio": recording},
                headers=headers,
                auth=auth,
                timeout=60,
            )
            assert response.status_code == 200
            result = requests.get(
                guarded.url + response.json()["result_url"], headers=headers, auth=auth, timeout=10
            )
            assert result.status_code == 200


def test_gradio_client_with_a_key(guarded):
    from gradio_client import Client

    client = Client(guarded.url, headers={"Authorization": f"Bearer {KEY}"}, verbose=False)
    assert "/predict" in client.view_api(return_format="dict")["named_endpoints"]
    client.close()


def test_pages_of_other_sites_cannot_post(server, subtests):
    for path in ["/api/predict", "/gradio_api/upload", "/gradio_api/queue/join"]:
        for headers in [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site"},
        ]:
            with subtests.test(path=path, headers=headers):
                response = requests.post(server.url + path, headers=headers, timeout=10)
                assert response.status_code == 403
                assert response.json()["error"]["code"] == "foreign_origin"
                assert "Access-Control-Allow-Origin" not in response.headers


def test_the_own_page_can_post(server, recording):
    response = requests.post(
        f"{server.url}/api/predict",
        files={"audio": recording},
        headers={"Origin": server.url, "Sec-Fetch-Site": "same-origin"},
        timeout=60,
    )
    assert response.status_code == 200


def test_an_allowed_site_can_post_and_read(guarded, recording):
    origin = {"Origin": "https://crm.example"}
    preflight = requests.options(
        f"{guarded.url}/api/predict",
        headers=origin | {"Access-Control-Request-Method": "POST"},
        timeout=10,
    )
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://crm.example"
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    response = requests.post(
        f"{guarded.url}/api/predict",
        files={"audio": recording},
        headers=origin | {"X-API-Key": KEY},
        timeout=60,
    )
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "https://crm.example"


TRAVERSALS = [
    "/file=outputs/../app.py",
    "/file=outputs/%2e%2e/app.py",
    "/file=outputs/..%2fapp.py",
    "/file=outputs/%252e%252e/app.py",
    "/file=/etc/passwd",
    "/file=%2fetc%2fpasswd",
    "/file=outputs//etc/passwd",
    "/file=outputs/.writing/x",
    "/file=outputs/outputs_20200101_000000/../../app.py",
    "/file=outputs/outputs_20200101_000000/..",
    "/file=C:%5cWindows%5cwin.ini",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=app.py",
    "/gradio_api/file=../app.py",
]


def test_only_results_are_served(server, subtests):
    for path in TRAVERSALS:
        with subtests.test(path=path):
            # A prepared request keeps the path as it is written; requests would tidy it.
            request = requests.Request("GET", server.url).prepare()
            request.url = server.url + path
            response = requests.Session().send(request, timeout=10)
            assert response.status_code in (400, 403, 404, 422)
            assert "root:" not in response.text and "import" not in response.text


def test_links_are_not_followed(server, tmp_path):
    (tmp_path / "result.json").write_text("secret")
    folder = server.outputs / "outputs_20000101_000000"
    folder.symlink_to(tmp_path)
    inside = server.outputs / "outputs_20000101_000001"
    inside.mkdir()
    (inside / "result.json").symlink_to(tmp_path / "result.json")
    for name in (folder.name, inside.name):
        response = requests.get(f"{server.url}/file=outputs/{name}/result.json", timeout=10)
        assert response.status_code == 404 and "secret" not in response.text


def test_an_uploads_name_never_becomes_a_path(server, recording, subtests):
    for name in ["../../evil.wav", "/etc/cron.d/x", "a\x00b.wav", "é中.wav", "." * 300]:
        with subtests.test(name=name):
            response = requests.post(
                f"{server.url}/api/predict", files={"audio": (name, recording)}, timeout=60
            )
            assert response.status_code == 200
            shown = response.json()["source"]["name"]
            assert "/" not in shown and len(shown) <= 255
            written = {path.name for path in server.outputs.iterdir()}
            assert all(
                item.startswith((".writing", ".index.sqlite", ".vectors-", "outputs_"))
                for item in written
            )


def test_names_that_no_address_can_hold_are_refused(guarded, subtests):
    key = {"X-API-Key": KEY}
    for field in ("Host", "X-Forwarded-Host"):
        for name in ("[::", "[:::]", "é".encode(), "999.1.1.1", "a:b"):
            with subtests.test(field=field, name=name):
                headers = {field: name, **key}
                response = requests.get(guarded.url, headers=headers, timeout=10)
                assert response.status_code == 400
                assert field in response.json()["error"]["message"]
        for name in ("emotion.example", "emotion.example:8443", "[::1]:7860", "192.0.2.1"):
            with subtests.test(field=field, name=name):
                headers = {field: name, **key}
                assert requests.get(guarded.url, headers=headers, timeout=10).status_code == 200


def test_security_headers_and_request_id(server):
    for path in ("/", "/health", "/api/nothing"):
        headers = requests.get(server.url + path, timeout=10).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert len(headers["X-Request-Id"]) == 16


def test_the_rate_limit(guarded, recording):
    def ask(key: str) -> requests.Response:
        return requests.post(
            f"{guarded.url}/api/predict",
            files={"audio": recording},
            headers={"X-API-Key": key},
            timeout=60,
        )

    assert [ask("key-three").status_code for _ in range(RATE_LIMIT + 1)] == [
        *[200] * RATE_LIMIT,
        429,
    ]
    assert 0 < int(ask("key-three").headers["Retry-After"]) <= 60
    assert ask("key-four").status_code == 200  # each key has its own


def recognise_until_refused(server, path: Path, limit: int, **headers: str) -> None:
    """By Gradio's API: as often as the limit allows, and once more."""
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(server.url, headers=headers, verbose=False)

    def ask() -> str:
        return client.predict(handle_file(path), api_name="/predict")["granularity"]

    assert [ask() for _ in range(limit)] == ["utterance"] * limit
    with pytest.raises(AppError, match=f"More than {limit} recognitions"):
        ask()
    # What recognises nothing is not counted: the page still comes, and can still ask for news.
    assert requests.get(server.url, headers=headers, timeout=10).status_code == 200


@pytest.fixture(scope="module")
def without_queue(start_server):
    """Behind a proxy, for everybody, without Gradio's queue."""
    server = start_server("--model", "compact", "--rate-limit", "2", "--no-gradio-queue")
    server.wait_ready()
    return server


def test_the_rate_limit_holds_for_gradio_too(guarded, without_queue, recording, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(recording)
    recognise_until_refused(guarded, path, RATE_LIMIT, Authorization="Bearer key-five")
    recognise_until_refused(without_queue, path, 2)


def test_callers_are_told_apart_by_their_own_address(without_queue):
    # The limit is per address, and every request comes from the proxy's: its header is believed.
    def ask(address: str) -> int:
        url = f"{without_queue.url}/api/predict"
        return requests.post(url, headers={"X-Forwarded-For": address}, timeout=10).status_code

    asked = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]
    assert [ask(address) for address in asked] == [400, 400, 429, 400]


@given(
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
    per_minute=st.integers(1, 20),
)
def test_no_window_of_a_minute_holds_more_than_the_limit(gaps, per_minute):
    limiter = RateLimiter(per_minute)
    now, taken = 0.0, []
    for gap in gaps:
        now += gap
        try:
            limiter.take("caller", now)
        except RateLimited:
            # Refused only when the window really is full.
            assert sum(at > now - RATE_WINDOW_S for at in taken) >= per_minute
        else:
            taken.append(now)
    for at in taken:
        assert sum(at <= other < at + RATE_WINDOW_S for other in taken) <= per_minute
