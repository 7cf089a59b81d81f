"""/openapi.json says of every answer what is in it, and the answers are as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from benchmarks.synthetic_audio import write_soundfile
from tests import past

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis")


@pytest.fixture(scope="module")
def document(server) -> dict[str, Any]:
    return requests.get(f"{server.url}/openapi.json", timeout=10).json()


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "test.wav"
    # Two stretches of speech, so that sentences are in the answer.
    speech = past.heard().samples
    samples = np.concatenate([speech, np.zeros(32_000), speech])
    return write_soundfile(path, samples, 16_000, "WAV", "PCM_16")


def properties(schema: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every property in a part of the document, with its place."""
    if isinstance(schema, dict):
        named = schema.get("properties")
        if schema.get("type") == "object" and isinstance(named, dict):
            for name, one in named.items():
                yield f"{where}.{name}", one
        for key, one in schema.items():
            yield from properties(one, f"{where}.{key}")
    elif isinstance(schema, list):
        for i, one in enumerate(schema):
            yield from properties(one, f"{where}[{i}]")


def test_every_property_is_described(document):
    schemas = document["components"]["schemas"]

    def described(one: dict[str, Any]) -> bool:
        # A reference with the very words of what it refers to is written without them.
        target = schemas.get(one.get("$ref", "").rpartition("/")[2], {})
        return bool(one.get("description") or target.get("description"))

    found = list(properties(document, ""))
    assert len(found) > 120
    assert [where for where, one in found if not described(one)] == []


def test_every_parameter_is_described(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            for one in operation.get("parameters", []):
                assert one.get("description"), (method, path, one["name"])


def test_units_and_meaning_are_told(document):
    schemas = document["components"]["schemas"]
    assert "in s" in schemas["Timing"]["properties"]["inference_s"]["description"]
    assert "in dBFS" in schemas["SourceFigures"]["properties"]["peak_dbfs"]["description"]
    answer = document["paths"]["/api/predict"]["post"]["responses"]["200"]
    assert "allOf" in str(answer["content"]["application/json"]["schema"])


def validate(document: dict[str, Any], method: str, path: str, response: requests.Response) -> None:
    answers = document["paths"][path][method]["responses"]
    answer = answers.get(str(response.status_code), answers["default"])
    schema = answer["content"]["application/json"]["schema"]
    # References are within the document, so it goes along.
    jsonschema_rs.validate(schema | {"components": document["components"]}, response.json())


def test_answers_are_as_described(server, document, recording):
    def post(path: str, **fields: str) -> requests.Response:
        with recording.open("rb") as file:
            return requests.post(server.url + path, files={"audio": file}, data=fields, timeout=120)

    utterance = post("/api/predict", extract_embedding="true")
    frame = post("/api/predict", granularity="frame")
    assert (utterance.status_code, frame.status_code) == (200, 200)
    assert len(frame.json()["utterances"]) == 2
    robustness = post("/api/robustness")
    assert robustness.status_code == 200
    bad = post("/api/predict", granularity="word")
    assert bad.status_code == 400
    for path, response in (
        ("/api/predict", utterance),
        ("/api/predict", frame),
        ("/api/predict", bad),
        ("/api/robustness", robustness),
    ):
        validate(document, "post", path, response)
    old = past.save_old(server.outputs, timestamp="1997-06-01 08:00:00")
    folders = [Path(one.json()["output_dir"]).name for one in (utterance, frame)]
    for path, address in (
        ("/api/history", "/api/history?limit=1000"),
        ("/api/history/{folder}", f"/api/history/{folders[0]}"),
        ("/api/history/{folder}", f"/api/history/{folders[1]}"),
        ("/api/history/{folder}", f"/api/history/{old}"),
        ("/api/history/{folder}", "/api/history/outputs_20200101_000000"),
        ("/api/compare", f"/api/compare?folder={folders[0]}&folder={folders[1]}&folder={old}"),
        ("/api/compare", "/api/compare?folder=x"),
        ("/health", "/health"),
        ("/ready", "/ready"),
    ):
        validate(document, "get", path, requests.get(server.url + address, timeout=30))
    deleted = requests.delete(f"{server.url}/api/history/{old}", timeout=30)
    assert deleted.status_code == 200 and not (server.outputs / old).exists()
    validate(document, "delete", "/api/history/{folder}", deleted)


def test_the_schema_tells_a_wrong_answer(server, document, recording):
    # Or the validation above would prove nothing.
    with recording.open("rb") as file:
        body = requests.post(f"{server.url}/api/predict", files={"audio": file}, timeout=60).json()
    schema = document["paths"]["/api/predict"]["post"]["responses"]["200"]
    whole = schema["content"]["application/json"]["schema"] | {"components": document["components"]}
    jsonschema_rs.validate(whole, body)
    for wrong in (
        {key: value for key, value in body.items() if key != "audio_url"},
        body | {"confidence": "high"},
        body | {"timing": {"decode_s": 1.0}},
    ):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(whole, wrong)
