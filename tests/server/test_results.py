"""Past results over HTTP: search, read, compare, delete, files, exports and pages."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
import requests

from emotion2vec_ui.records import exports
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.report import parse
from tests import past


@pytest.fixture(scope="module")
def stocked(server):
    """The shared server with five known results, told by their year from those of other tests."""
    outputs = server.outputs
    vector = np.ones(3, np.float32)
    folders = [
        past.save(outputs, vector, name="客户.wav", timestamp="1999-01-01 10:00:00"),
        past.save(outputs, vector, emotion="sad", confidence=0.6, timestamp="1999-01-02 10:00:00"),
        past.save(outputs, frames=past.frames(), timestamp="1999-01-03 10:00:00"),
        past.save_old(outputs, timestamp="1998-06-01 08:00:00"),
        past.save(outputs, name="<script>alert(1)</script>.wav", timestamp="1999-01-05 10:00:00"),
    ]
    yield server, folders
    for folder in folders:
        results.discard(outputs / folder)


YEARS = "date_to=1999-12-31"


def get(server, path: str, **options) -> requests.Response:
    return requests.get(server.url + path, timeout=30, **options)


def test_search_over_http(stocked):
    server, folders = stocked
    body = get(server, f"/api/history?limit=2&{YEARS}").json()
    assert [row["folder"] for row in body["rows"]] == [folders[4], folders[2]]
    assert {key: body[key] for key in ("total", "limit", "offset", "damaged")} == {
        "total": 5,
        "limit": 2,
        "offset": 0,
        "damaged": body["damaged"],
    }
    found = get(server, f"/api/history?emotion=sad&emotion=angry&band=low&{YEARS}").json()
    assert [row["folder"] for row in found["rows"]] == [folders[1]]
    found = get(server, "/api/history", params={"text": "客户", "date_to": "1999-12-31"}).json()[
        "rows"
    ]
    assert [row["folder"] for row in found] == [folders[0]]
    for address in ("page_url", "result_url", "audio_url"):
        assert get(server, found[0][address]).status_code == 200


def test_one_result_over_http(stocked):
    server, folders = stocked
    body = get(server, f"/api/history/{folders[0]}").json()
    saved = json.loads((server.outputs / folders[0] / "result.json").read_text("utf-8"))
    base = f"/file=outputs/{folders[0]}"
    assert body == saved | {
        "output_dir": f"outputs/{folders[0]}",
        "result_url": f"{base}/result.json",
        "audio_url": f"{base}/processed_audio.wav",
        "embedding_url": f"{base}/embedding.npy",
    }
    assert get(server, f"/api/history/{folders[2]}").json()["granularity"] == "frame"
    assert get(server, f"/api/history/{folders[3]}").json()["embedding_url"] is None


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/history?emotion=bored", 400, "bad_field"),
        ("/api/history?limit=many", 400, "bad_field"),
        ("/api/history?limit=100000", 400, "bad_field"),
        ("/api/history?date_from=x", 400, "bad_field"),
        ("/api/history.csv?sort=x", 400, "bad_field"),
        ("/api/compare", 400, "bad_field"),
        ("/api/compare?folder=outputs_19990101_100000", 400, "bad_field"),
        ("/api/compare?folder=outputs_19990101_100000&folder=..", 404, "not_found"),
        ("/api/history/outputs_20200101_000000", 404, "not_found"),
        ("/api/history/..%2f..%2fetc", 404, "not_found"),
        ("/result/outputs_20200101_000000", 404, "not_found"),
        ("/result/..", 404, "not_found"),
        ("/result/outputs_19990101_100000?lang=fr", 400, "bad_field"),
    ],
)
def test_errors_over_http(stocked, path, status, code):
    server, _ = stocked
    request = requests.Request("GET", server.url + path).prepare()
    request.url = server.url + path  # as it stands: ".." is not resolved by the client
    with requests.Session() as session:
        response = session.send(request, timeout=30)
    if response.status_code == 404 and path.endswith(".."):
        return  # the server's own URL parser may resolve it: to nothing of ours
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"code", "message", "hint"}
    assert response.json()["error"]["code"] == code
    assert "/tmp/" not in response.text


def test_the_csv_over_http(stocked):
    server, folders = stocked
    response = get(server, f"/api/history.csv?sort=oldest&{YEARS}")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in response.headers["content-disposition"]
    assert response.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline="")))
    expected = [folders[3], folders[0], folders[1], folders[2], folders[4]]
    assert [row["folder"] for row in rows] == expected
    assert rows[1]["name"] == "客户.wav"
    assert not get(server, "/api/history.csv?bom=false").content.startswith(b"\xef\xbb\xbf")


def test_comparison_over_http(stocked):
    server, folders = stocked
    query = "&".join(f"folder={one}" for one in folders[:3])
    body = get(server, f"/api/compare?{query}").json()
    assert [one["folder"] for one in body["results"]] == folders[:3]
    assert body["similarity"][0] == [1.0, 1.0, None]
    page = get(server, f"/comparison?{query}&lang=zh")
    assert page.status_code == 200 and "识别结果对比" in page.text


def test_a_result_has_its_own_page(stocked):
    server, folders = stocked
    path = f"/result/{folders[4]}"
    page = get(server, path, headers={"Accept-Language": "zh-CN"})
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "语音情感识别报告" in page.text and "<script" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert f'src="/file=outputs/{folders[4]}/processed_audio.wav"' in page.text
    assert "Speech emotion report" in get(server, path + "?lang=en").text
    assert get(server, f"/result/{folders[3]}?lang=en").status_code == 200


def test_deleting_over_http(stocked):
    server, _ = stocked
    folder = past.save(server.outputs, timestamp="2026-02-01 00:00:00")
    url = f"{server.url}/api/history/{folder}"
    foreign = requests.delete(url, headers={"Origin": "http://evil.example"}, timeout=30)
    assert foreign.status_code == 403 and (server.outputs / folder).is_dir()
    assert requests.delete(url, timeout=30).json() == {"deleted": [folder]}
    assert not (server.outputs / folder).exists()
    assert requests.delete(url, timeout=30).status_code == 404


def test_the_routes_are_documented(stocked):
    server, _ = stocked
    paths = get(server, "/openapi.json").json()["paths"]
    for path in ("/api/history", "/api/history.csv", "/api/compare", "/result/{folder}"):
        assert paths[path]["get"]["summary"]
    assert set(paths["/api/history/{folder}"]) == {"get", "delete"}


# --- files of other programs ----------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("part", exports.PARTS)
@pytest.mark.parametrize("ending", list(exports.formats()))
def test_an_export_is_what_records_make_of_it(stocked, ending, part, lang):
    server, folders = stocked
    response = get(server, f"/result/{folders[2]}.{ending}?part={part}&lang={lang}")
    found = parse((server.outputs / folders[2] / "result.json").read_bytes())
    assert response.content.decode() == exports.export(found, ending, lang=lang, part=part)
    assert response.headers["content-type"] == exports.formats()[ending].media_type
    suffix = {"segments": "", "sentences": "_sentences"}[part]
    name = f'attachment; filename="call{suffix}.{ending}"'
    assert response.headers["content-disposition"] == name


def test_an_export_is_in_the_callers_language(stocked):
    server, folders = stocked
    labels = get(server, f"/result/{folders[2]}.txt", headers={"Accept-Language": "zh-CN"}).text
    assert "快乐" in labels


def test_an_export_of_an_old_result_has_its_folders_name(stocked):
    server, folders = stocked
    response = get(server, f"/result/{folders[3]}.csv")
    assert response.text.startswith("emotion,score\r\nangry,0.012")
    assert f'filename="{folders[3]}.csv"' in response.headers["content-disposition"]


def test_a_name_beyond_ascii_comes_in_both_forms(stocked):
    server, folders = stocked
    given = get(server, f"/result/{folders[0]}.csv").headers["content-disposition"]
    assert given == "attachment; filename=\"__.csv\"; filename*=UTF-8''%E5%AE%A2%E6%88%B7.csv"


def test_the_archive_holds_every_file(stocked):
    server, folders = stocked
    response = get(server, f"/result/{folders[1]}.zip", headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-type"] == "application/zip"
    assert 'filename="call.zip"' in response.headers["content-disposition"]
    assert "content-encoding" not in response.headers
    assert int(response.headers["content-length"]) == len(response.content)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        for path in (server.outputs / folders[1]).iterdir():
            assert archive.read(f"{folders[1]}/{path.name}") == path.read_bytes()
        assert len(archive.namelist()) == 3


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("outputs_19990101_100000.pdf", 404),
        ("outputs_19990101_100000.textgrid", 404),
        ("outputs_20200101_000000.csv", 404),
        ("outputs_20200101_000000.zip", 404),
        ("..csv", 404),
        (".index.sqlite", 404),
        (".writing.zip", 404),
        ("outputs_19990101_100000.csv?part=words", 400),
        ("outputs_19990101_100000.csv?lang=fr", 400),
    ],
)
def test_no_other_file_is_exported(stocked, path, status):
    server, _ = stocked
    response = get(server, f"/result/{path}")
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"code", "message", "hint"}


def test_a_bad_part_names_the_allowed_ones(stocked):
    server, folders = stocked
    message = get(server, f"/result/{folders[0]}.srt?part=words").json()["error"]["message"]
    assert "part" in message and "'words'" in message and "'segments' or 'sentences'" in message


def test_a_filter_that_does_not_exist_is_named(stocked):
    server, _ = stocked
    response = get(server, "/api/history?emotoin=sad")
    assert response.status_code == 400 and "emotoin" in response.json()["error"]["message"]


# --- what is not there ----------------------------------------------------------------------------

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "path", ["/result/outputs_20200101_000000", "/result/outputs_20200101_000000.zip", "/nothing"]
)
def test_a_browser_gets_a_page_in_its_language(stocked, path):
    server, _ = stocked
    for lang, words in (("zh-CN", "找不到这个页面"), ("en", "This page is not here")):
        page = get(server, path, headers={"Accept": BROWSER, "Accept-Language": lang})
        assert page.status_code == 404 and words in page.text
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert 'href="/"' in page.text and 'href="/history"' in page.text
        assert "<script" not in page.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html", ""])
def test_everybody_else_gets_json(stocked, accept):
    server, _ = stocked
    response = get(server, "/result/outputs_20200101_000000", headers={"Accept": accept})
    assert response.json()["error"]["code"] == "not_found"


def test_what_is_missing_is_escaped(stocked):
    server, _ = stocked
    page = get(server, "/result/<script>alert(1)<%2fscript>", headers={"Accept": BROWSER})
    assert page.status_code == 404 and "<script" not in page.text
