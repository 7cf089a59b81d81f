"""`evaluate` as a shell runs it: its figures are those of the rows of `batch`, by scikit-learn."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.labels import EMOTIONS
from tests.batch.conftest import Done, environment
from tests.conftest import ROOT

CONTRACT = [
    "model", "clips", "left_out", "uar", "uar_interval", "wa", "macro_f1", "ece", "per_class",
    "confusion", "groups", "robustness",
]  # fmt: skip
"""Section 10, in its order."""


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., Done]:
    """Runs `evaluate` with the built-in model to its end."""

    def run(*arguments: object, **environ: str) -> Done:
        module = [sys.executable, "-m", "emotion2vec_ui", "evaluate", "--model", "compact"]
        return subprocess.run(
            [*module, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(**environ),
            timeout=180,
        )

    return run


LABELS = ("anger", "happiness", "neutral")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve buzzing clips of four speakers with arbitrary labels; one broken, one absent, one
    with a label that is no emotion of the model's."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = ["path,emotion,speaker,gender"]
    for place in range(12):
        path = folder / f"{place}.wav"
        write_soundfile(path, speechlike(1.0, seed=place), 16_000, "WAV", "PCM_16")
        speaker = place % 4
        lines.append(f"{path.name},{LABELS[place % 3]},s{speaker},{'fm'[speaker % 2]}")
    (folder / "broken.wav").write_text("no sound")
    lines += ["broken.wav,anger,s0,f", "absent.wav,anger,s0,f", "0.wav,boredom,s0,f"]
    (folder / "list.csv").write_text("\n".join(lines), "utf-8")
    return folder


def test_the_figures_are_those_of_the_rows(evaluate, batch, corpus, tmp_path):
    out = tmp_path / "report.html"
    done = evaluate(corpus / "list.csv", "--out", out, "--json")
    # Two recordings could not be recognised, each named.
    assert done.returncode == 1, done.stderr
    assert "broken.wav: " in done.stderr and "absent.wav: " in done.stderr
    assert "happiness: 4 recordings, taken for happy" in done.stderr
    assert "boredom: 1 recordings" in done.stderr
    found = json.loads(done.stdout)
    assert list(found)[: len(CONTRACT)] == CONTRACT
    assert (found["model"], found["clips"], found["left_out"]) == ("compact", 12, 3)
    assert found["left_out_by"] == {
        "labels": {"boredom": 1}, "errors": {"cannot_read": 1, "cannot_decode": 1},
        "segments": 0, "repeated": 0,
    }  # fmt: skip

    table = tmp_path / "rows.csv"
    batch(corpus / "list.csv", "--out", table)
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file) if row["status"] == "ok"}
    by_label = dict(zip(LABELS, ("angry", "happy", "neutral"), strict=True))
    truth = [by_label[LABELS[place % 3]] for place in range(12)]
    answer = [rows[f"{place}.wav"]["emotion"] for place in range(12)]
    own = ["angry", "happy", "neutral"]
    common = {"labels": own, "average": "macro", "zero_division": 0}
    assert found["uar"] == pytest.approx(sklearn.recall_score(truth, answer, **common), abs=1e-4)
    assert found["wa"] == pytest.approx(sklearn.accuracy_score(truth, answer), abs=1e-4)
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(truth, answer, **common), abs=1e-4)
    matrix = sklearn.confusion_matrix(truth, answer, labels=EMOTIONS)
    for label in own:
        assert list(found["confusion"][label].values()) == list(matrix[EMOTIONS.index(label)])
    confidence = np.array([float(rows[f"{place}.wav"]["confidence"]) for place in range(12)])
    assert found["risk_coverage"][-1]["confidence"] == pytest.approx(confidence.min(), abs=1e-4)
    assert found["interval_by"] == "speaker" and found["speakers"] == 4
    assert {one["name"] for one in found["groups"]["gender"]} == {"female", "male"}
    assert len(found["groups"]["speaker"]) == 4
    assert all(one["small"] for ones in found["groups"].values() for one in ones)
    assert found["robustness"] is None
    assert found["caveats"] == ["few_speakers", "few_clips"]
    assert len(found["model_details"]["weights_sha256"]) == 64

    kept = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert kept == {name: value for name, value in found.items() if name != "report"}


def test_the_report_is_one_file_in_both_languages(evaluate, corpus, tmp_path):
    out = tmp_path / "report.html"
    done = evaluate(corpus / "list.csv", "--out", out, "--robustness", "3", "--lang", "zh")
    assert "未加权平均召回率" in done.stdout and "稳健性测试" in done.stdout
    page = out.read_text("utf-8")
    for words in ("Is the confidence right?", "置信度可信吗？", "Tests of robustness", "telephone"):
        assert words in page
    assert not re.search(r'(?:src|href)="(?!#)', page), "nothing is fetched"
    assert "<script" not in page
    found = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert len(found["robustness"]) == 16
    assert {one["clips"] for one in found["robustness"]} == {3}
    gain = next(one for one in found["robustness"] if one["subject"] == "gain")
    # The model is told the level of the clip, so that gain cannot matter to it.
    assert gain["test"] == "unchanged" and gain["value"] == 1.0 and gain["passed"]


def test_the_same_command_goes_on(evaluate, corpus, tmp_path):
    """What is done is not recognised again, and a longer manifest keeps it."""
    out = tmp_path / "report.html"
    evaluate(corpus / "list.csv", "--out", out)
    before = json.loads(out.with_suffix(".json").read_text("utf-8"))
    write_soundfile(corpus / "absent.wav", speechlike(1, seed=99), 16_000, "WAV", "PCM_16")
    done = evaluate(corpus / "list.csv", "--out", out)
    assert "14 files, model compact; 13 are done already" in done.stderr
    after = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert (before["clips"], after["clips"]) == (12, 13)
    assert not list(tmp_path.glob(".*"))


def test_a_corpus_that_the_model_learnt_from_is_no_test(evaluate, corpus, tmp_path):
    """Told by the corpus's name, as people write it, or by a folder's."""
    (corpus / "named.csv").write_text(
        "path,emotion,corpus\n0.wav,anger,EMO-DB\n1.wav,happiness,EMO-DB\n"
    )
    done = evaluate(corpus / "named.csv", "--out", tmp_path / "a.html")
    assert done.returncode == 0, done.stderr
    assert "THIS IS NO TEST" in done.stdout and "(emodb)" in done.stdout
    # And what the authors of plus_large published of it.
    assert "EmoDB: UAR plus_large 98.6 %" in done.stdout
    assert 'class="warnings loud"' in (tmp_path / "a.html").read_text("utf-8")
    folder = tmp_path / "ravdess"
    corpus.rename(folder)
    (folder / "named.csv").write_text("path,emotion\n0.wav,anger\n1.wav,happiness\n")
    done = evaluate(folder / "named.csv", "--out", tmp_path / "b.html")
    assert "(ravdess)" in done.stdout and "speakers are not told apart" in done.stdout


def test_what_cannot_be_judged_is_told_before_anything_is_recognised(
    evaluate, corpus, tmp_path, subtests
):
    manifests = {
        "one class": ("path,emotion\n0.wav,anger\n1.wav,ang\n", "have the label angry"),
        "no label": ("path,emotion\n0.wav,calm\n", "none of its recordings can be judged"),
        "column": ("path,feeling\n0.wav,anger\n", "no column emotion"),
        "unknown": ("path,emotion,take\n0.wav,anger,1\n", "columns take are not known"),
    }
    for name, (content, words) in manifests.items():
        with subtests.test(name=name):
            (corpus / "bad.csv").write_text(content)
            done = evaluate(corpus / "bad.csv", "--out", tmp_path / "a.html")
            assert done.returncode == 1 and words in done.stderr, done.stderr
    usage = {
        "--map calm": "expected LABEL=EMOTION",
        "--map calm=quiet": "'quiet' is none of angry",
        "--out a.pdf": "name ends in .html",
        "--robustness -1": "expected a number",
    }
    for arguments, words in usage.items():
        with subtests.test(arguments=arguments):
            done = evaluate(corpus / "list.csv", *arguments.split())
            assert done.returncode == 2 and words in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_recordings_that_are_all_absent(evaluate, tmp_path):
    (tmp_path / "list.csv").write_text("path,emotion\na.wav,anger\nb.wav,sad\n")
    done = evaluate(tmp_path / "list.csv", "--out", tmp_path / "a.html")
    assert done.returncode == 1 and "none of its recordings can be judged" in done.stderr
    assert not (tmp_path / "a.html").exists()
