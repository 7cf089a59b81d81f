"""What stands in the table: the contract's columns, and what `predict` says of the same files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from pyarrow import types as arrow_types

from emotion2vec_ui.errors import SubclassRefused
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.rows import subclass_columns
from tests import past_subclasses
from tests.batch.conftest import NAMES, environment
from tests.conftest import ROOT

COLUMNS = [
    "path", "sha256", "status", "emotion", "confidence",
    "score_angry", "score_disgusted", "score_fearful", "score_happy", "score_neutral",
    "score_other", "score_sad", "score_surprised", "score_unknown",
    "band", "familiarity", "quality", "warnings", "duration_s", "model", "error",
]  # fmt: skip
"""Contract section 10."""


def predicted(folder: Path, *flags: str) -> dict[str, dict]:
    """What `predict --json` says of each file, by its path in the folder."""
    command = [sys.executable, "-m", "emotion2vec_ui", "predict", "--model", "compact"]
    done = subprocess.run(
        [*command, "--json", "--no-save", *flags, *NAMES],
        capture_output=True, text=True, cwd=folder, env=environment(), timeout=180,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["file"]: line for line in lines}


def test_a_row_says_what_predict_says(batch, recordings, tmp_path, subtests):
    """Three formats, with segments; the embedding where there is room for it."""
    answers = predicted(recordings, "--granularity", "frame")
    tables: dict[str, list[dict]] = {}
    for ending, flags in (("csv", []), ("jsonl", ["--embedding"]), ("parquet", ["--embedding"])):
        out = tmp_path / f"results.{ending}"
        done = batch(recordings, "--out", out, "--granularity", "frame", *flags)
        assert done.returncode == 1, done.stderr  # two rows have an error
        assert "8 rows: 6 ok, 2 with an error" in done.stdout
        assert "broken.wav: No decoder" in done.stderr and "empty.mp3: " in done.stderr
        tables[ending] = read(out)
    for ending, rows in tables.items():
        more = ["segments"] if ending == "csv" else ["segments", "embedding"]
        assert list(rows[0]) == COLUMNS + more
        assert {row["path"]: row["status"] for row in rows} == NAMES
        assert [row["path"] for row in rows] == sorted(NAMES)
        for row in rows:
            with subtests.test(ending=ending, path=row["path"]):
                check(row, answers[row["path"]])
    for one, other in zip(tables["jsonl"], tables["parquet"], strict=True):
        vector, same = one.pop("embedding"), other.pop("embedding")
        assert np.allclose(vector, same, rtol=1e-4, atol=1e-5) if vector else np.isnan(same).all()
        # Runs may differ in the last digit; each was compared with `predict` above.
        exact = ("path", "sha256", "status", "emotion", "band", "warnings", "duration_s", "error")
        assert [one[name] for name in exact] == [other[name] for name in exact]


def read(out: Path) -> list[dict]:
    """A table by the usual reader of its format, with numbers and lists as such."""
    if out.suffix == ".parquet":
        return parquet.read_table(out).to_pylist()
    text = out.read_text("utf-8")
    if out.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    rows = []
    for row in csv.DictReader(text.splitlines()):
        rows.append({name: cell or None for name, cell in row.items()})
        for name in rows[-1]:
            number = name in ("confidence", "familiarity", "duration_s") or name[:6] == "score_"
            if number and row[name]:
                rows[-1][name] = float(row[name])
        rows[-1]["warnings"] = row["warnings"].split()
        if "segments" in row:
            rows[-1]["segments"] = json.loads(row["segments"]) if row["segments"] else None
    return rows


def check(row: dict, answer: dict) -> None:
    if row["status"] != "ok":
        assert (row["status"], row["error"]) == (
            answer["error"]["code"],
            answer["error"]["message"],
        )
        assert row["emotion"] is None and row["score_happy"] is None
        assert row["model"] == "compact" and len(row["sha256"]) == 64
        return
    # The model may hear the clips in another order and company; rounding is to six decimals.
    near = {"abs": 2e-6}
    assert row["emotion"] == answer["emotion"] and row["error"] is None
    assert row["confidence"] == pytest.approx(answer["confidence"], **near)
    scores = [row[f"score_{emotion}"] for emotion in EMOTIONS]
    assert scores == pytest.approx(list(answer["utterance_scores"].values()), **near)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert row["sha256"] == answer["source"]["sha256"]
    assert row["duration_s"] == answer["source"]["duration_s"]
    assert row["band"] == answer["reliability"]["band"]
    assert row["familiarity"] == pytest.approx(answer["reliability"]["familiarity"], **near)
    assert row["quality"] == answer["quality"]["verdict"]
    assert row["warnings"] == [warning["code"] for warning in answer["warnings"]]
    assert row["model"] == answer["model"]["id"] == "compact"
    for mine, other in zip(row["segments"], answer["segments"], strict=True):
        assert mine["emotion"] == other["emotion"]
        figures = [mine[name] for name in ("start_s", "end_s", "confidence")]
        assert figures == pytest.approx(
            [other[name] for name in ("start_s", "end_s", "confidence")], **near
        )


def test_parquet_says_units_model_and_width(batch, recordings, tmp_path):
    out = tmp_path / "results.parquet"
    batch(recordings / "one.wav", "--out", out, "--embedding")
    schema = parquet.read_schema(out)
    assert schema.field("duration_s").metadata[b"unit"] == b"s"
    assert arrow_types.is_fixed_size_list(schema.field("embedding").type)
    (vector,) = parquet.read_table(out).column("embedding").to_pylist()
    assert len(vector) == schema.field("embedding").type.list_size > 100
    metadata = schema.metadata
    model = json.loads(metadata[b"model"])
    assert model["id"] == "compact" and len(model["weights_sha256"]) == 64
    assert model["precision"] == "fp32" and metadata[b"granularity"] == b"utterance"
    assert json.loads(metadata[b"labels"]) == list(EMOTIONS)
    assert metadata[b"root"].decode() == str(recordings)


def test_the_embedding_is_that_of_predict(batch, recordings, tmp_path):
    out = tmp_path / "results.jsonl"
    batch(recordings / "one.wav", "--out", out, "--embedding")
    (row,) = read(out)
    subprocess.run(
        [sys.executable, "-m", "emotion2vec_ui", "predict", "--model", "compact",
         "--extract-embedding", "--outputs", tmp_path / "outputs", recordings / "one.wav"],
        check=True, cwd=ROOT, env=environment(), capture_output=True,
    )  # fmt: skip
    (file,) = tmp_path.glob("outputs/outputs_*/embedding.npy")
    assert np.allclose(row["embedding"], np.load(file), atol=1e-5)


def test_sub_classes_are_columns_and_belong_to_the_table(batch, recordings, tmp_path):
    outputs = tmp_path / "outputs"
    (model,) = {line["model"]["weights_sha256"] for line in good(predicted(recordings))}
    for name, base in (("calls", "angry"), ("tone", "neutral")):
        made = past_subclasses.trained(name=name, base=base, dim=512, weights_sha256=model)
        subclasses.save(outputs, made)
    subclasses.save(outputs, past_subclasses.trained(name="foreign", model="other"))
    columns = [
        f"subclass_{name}_{one}"
        for name in ("calls", "tone")
        for one in ("frustrated", "furious", "none")
    ]
    asked = ("--subclass", "calls", "--subclass", "tone", "--outputs", outputs)
    answers = predicted(recordings, *map(str, asked))
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"results.{ending}"
        assert batch(recordings, "--out", out, *asked).returncode == 1  # two rows have an error
        for row in read(out):
            assert list(row) == COLUMNS + columns
            if row["status"] != "ok":
                assert {row[name] for name in columns} == {None}
                continue
            divided = answers[row["path"]]["subclasses"].values()
            wanted = [share for one in divided for share in (*one["scores"].values(), one["none"])]
            found = [float(row[name]) for name in columns]
            assert found == pytest.approx(wanted, abs=2e-6)
            assert sum(found[:3]) == pytest.approx(float(row["score_angry"]), abs=2e-6)
    assert parquet.read_schema(out).field(columns[0]).metadata[b"unit"] == b"1, from 0 to 1"
    assert parquet.read_schema(out).metadata[b"subclass"].startswith(b"calls 1 (")
    # Another choice, and another version, are another table.
    again = batch(recordings, "--out", out, "--subclass", "calls", "--outputs", outputs)
    assert again.returncode == 1 and "sub-classes" in again.stderr and "calls 1 (" in again.stderr
    subclasses.save(
        outputs,
        past_subclasses.trained(name="calls", base="angry", dim=512, weights_sha256=model),
    )
    again = batch(recordings, "--out", out, *asked)
    assert again.returncode == 1 and "calls 2 (" in again.stderr
    subclasses.make_current(outputs, "calls", 1)
    assert "are done already" in batch(recordings, "--out", out, *asked).stderr
    # What does not fit the model or is not there is told before anything is recognised.
    fresh = tmp_path / "fresh.csv"
    for name, words in (("foreign", "embeddings of other"), ("nothing", "calls, foreign, tone")):
        done = batch(recordings, "--out", fresh, "--subclass", name, "--outputs", outputs)
        assert done.returncode == 1 and words in done.stderr and not fresh.exists()


def good(answers: dict[str, dict]) -> list[dict]:
    return [answer for answer in answers.values() if "error" not in answer]


def test_two_columns_of_one_name_are_refused():
    cards = [
        past_subclasses.trained(name="a", classes=("b_c", "d")).card,
        past_subclasses.trained(name="a_b", classes=("c", "d")).card,
    ]
    with pytest.raises(SubclassRefused, match="subclass_a_b_c"):
        subclass_columns(cards)
