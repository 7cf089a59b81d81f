"""Sub-classes over HTTP: trained from an archive, used, listed, chosen and removed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from emotion2vec_ui.records import subclasses
from tests import past, past_subclasses
from tests.conftest import Server
from tests.lab.conftest import write_labelled
from tests.past import EXAMPLE


@pytest.fixture(scope="module")
def trained(server: Server) -> Iterator[Server]:
    """The shared server with two sets of its model, and one of another."""
    with EXAMPLE.open("rb") as file:
        answer = requests.post(f"{server.url}/api/predict", files={"audio": file}, timeout=60)
    weights = answer.json()["model"]["weights_sha256"]
    for facts in (
        {"name": "calls", "base": "angry", "dim": 512, "weights_sha256": weights},
        {"name": "calls", "base": "angry", "dim": 512, "weights_sha256": weights, "uar": 0.9},
        {"name": "tone", "base": "neutral", "dim": 512, "weights_sha256": weights, "small": True,
         "classes": ("calm", "plain", "tired")},
        {"name": "foreign", "dim": 512, "weights_sha256": "f" * 64, "model": "other"},
    ):  # fmt: skip
        subclasses.save(server.outputs, past_subclasses.trained(**facts))
    yield server
    for name in subclasses.names(server.outputs):
        subclasses.remove(server.outputs, name)


def predict(server: Server, *names: str) -> requests.Response:
    with EXAMPLE.open("rb") as file:
        return requests.post(
            f"{server.url}/api/predict",
            files={"audio": file},
            data=[("subclass", name) for name in names],
            timeout=60,
        )


def test_a_form_may_ask_for_several(trained):
    plain, divided = predict(trained).json(), predict(trained, "calls", "tone").json()
    assert divided["scores"] == plain["scores"] and plain["subclasses"] is None
    assert list(divided["subclasses"]) == ["calls", "tone"]
    tone = divided["subclasses"]["tone"]
    assert tone["small"] and list(tone["scores"]) == ["calm", "plain", "tired"]
    assert round(sum([*tone["scores"].values(), tone["none"]]), 6) == plain["scores"]["neutral"]
    # The file and the report say the same.
    kept = requests.get(trained.url + divided["result_url"], timeout=10).json()
    assert kept["subclasses"] == divided["subclasses"]
    folder = Path(divided["output_dir"]).name
    page = requests.get(f"{trained.url}/result/{folder}?lang=en", timeout=10).text
    assert "frustrated" in page and "tired" in page and "none of these" in page
    assert "Trained on fewer than 200" in page


def test_what_is_not_there_or_of_another_model_is_a_bad_field(trained):
    unknown = predict(trained, "nothing")
    assert unknown.status_code == 400
    error = unknown.json()["error"]
    assert error["code"] == "bad_field" and "calls, foreign, tone" in error["message"]
    other = predict(trained, "foreign")
    assert other.status_code == 400
    assert other.json()["error"]["code"] == "subclass_of_other_model"
    assert predict(trained, "").json()["subclasses"] is None


def test_the_list_says_what_can_be_used(trained):
    listed = requests.get(f"{trained.url}/api/subclasses", timeout=10).json()["subclasses"]
    assert [(one["name"], one["versions"], one["usable"]) for one in listed] == [
        ("calls", [1, 2], True),
        ("foreign", [1], False),
        ("tone", [1], True),
    ]


def test_cards_versions_and_removal(trained):
    url = f"{trained.url}/api/subclasses/calls"
    assert requests.get(url, timeout=10).json()["uar"] == 0.9
    assert requests.get(url, params={"version": 1}, timeout=10).json()["uar"] == 0.8
    assert requests.get(url, params={"version": 7}, timeout=10).status_code == 404
    assert requests.get(url, params={"version": "x"}, timeout=10).status_code == 400
    assert requests.post(url, data={"version": 1}, timeout=10).json()["version"] == 1
    assert predict(trained, "calls").json()["subclasses"]["calls"]["version"] == 1
    removed = requests.delete(url, params={"version": 1}, timeout=10)
    assert removed.json() == {"name": "calls", "removed": [1]}
    assert requests.get(url, timeout=10).json()["version"] == 2
    base = requests.delete(f"{trained.url}/api/subclasses/angry", timeout=10)
    assert base.status_code == 400
    assert "neither replaced, renamed nor removed" in base.json()["error"]["message"]
    missing = requests.get(f"{trained.url}/api/subclasses/nothing", timeout=10)
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "subclass_not_found"


def archive(folder: Path, **more: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"set/{path.name}")
        for name, text in more.items():
            file.writestr(name, text)
    return content.getvalue()


def train(server: Server, sent_as: str, content: bytes, **fields: object) -> requests.Response:
    return requests.post(
        f"{server.url}/api/subclasses",
        files={"manifest": (sent_as, content)},
        data={"of": "angry", "name": "hiss", "allow_small": "true"} | fields,
        timeout=300,
    )


def test_an_archive_is_trained(trained, tmp_path):
    write_labelled(tmp_path)
    done = train(trained, "clips.zip", archive(tmp_path), licence="CC0-1.0")
    assert done.status_code == 200, done.text
    card = done.json()
    assert (card["samples"], card["speakers"], card["licence"]) == (24, 3, "CC0-1.0")
    assert list(predict(trained, "hiss").json()["subclasses"]["hiss"]["scores"]) == card["classes"]
    again = train(trained, "clips.zip", archive(tmp_path))
    assert again.json()["version"] == 2


def test_a_table_names_past_results_and_nothing_else(trained, tmp_path):
    folder = past.save(trained.outputs)
    secret = write_labelled(tmp_path).parent / "clear-0-0.wav"
    lines = ["path,label,speaker"]
    for i in range(30):
        name = (folder, str(secret), f"../../../..{secret}")[i % 3]
        lines.append(f"{name},{'ab'[i % 2]},s{i % 5}")
    answer = train(trained, "clips.csv", "\n".join(lines).encode())
    assert answer.status_code == 400
    # The one result is there, under two labels; what lies elsewhere was not opened.
    message = answer.json()["error"]["message"]
    assert f"{folder} is the recording {folder} again" in message
    only = [line for line in lines if folder not in line]
    absent = train(trained, "clips.csv", "\n".join(only).encode())
    assert absent.status_code == 400 and "20 recordings were left out" in absent.text
    assert str(tmp_path) not in absent.text


def test_what_is_no_manifest_is_told(trained, tmp_path):
    for content, told in (
        (b"path,label\na.wav,x\n", "no column speaker"),
        (b"\x00\x01", "manifest.csv cannot be used"),
        (archive(tmp_path), "a ZIP with one CSV"),
        (archive(tmp_path, **{"a.csv": "x", "b.csv": "y"}), "a ZIP with one CSV"),
    ):
        answer = train(trained, "clips", content)
        assert answer.status_code == 400 and told in answer.json()["error"]["message"]
    refused = train(trained, "c.csv", b"path,label,speaker\na.wav,x,s\n", name="sad")
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "subclass_refused"
    nothing = requests.post(f"{trained.url}/api/subclasses", data={"of": "angry"}, timeout=10)
    assert nothing.status_code == 400


def test_nothing_of_a_training_is_left_behind(trained):
    left = [path.name for path in trained.temporary.iterdir() if "emotion2vec" in path.name]
    assert left == []
