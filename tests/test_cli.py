"""The command line as a shell sees it: output, exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from tests.conftest import ROOT, clean_environment


def run(*arguments: object, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess:
    environment = clean_environment() | {"PYTHONPATH": str(ROOT), "LANG": "C"} | environ
    return subprocess.run(
        [sys.executable, "-m", "emotion2vec_ui", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env=environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "call.wav"
    return write_soundfile(path, speechlike(2), 16000, "WAV", "PCM_16")


def test_predict_prints_and_saves(recording, tmp_path):
    # Paths are relative to where the user is.
    where, name = recording.parent, recording.name
    done = run("predict", name, "--model", "compact", "--outputs", tmp_path, cwd=where)
    assert done.returncode == 0, done.stderr
    assert "call.wav" in done.stdout and "[compact]" in done.stdout and "%" in done.stdout
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("outputs_"))
    assert str(folder) in done.stdout


def test_predict_json_is_one_object_a_line_and_nothing_else(recording, tmp_path):
    bad = tmp_path / "notes.wav"
    bad.write_text("not audio")
    done = run(
        "predict", recording, bad, tmp_path / "missing.wav", recording,
        "--json", "--no-save", "--model", "compact",
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("emotion") is not None for line in lines] == [True, False, False, True]
    assert [line["error"]["code"] for line in lines[1:3]] == ["cannot_decode", "cannot_read"]
    classic = ["emotion", "confidence", "scores", "granularity", "timestamp"]
    assert list(lines[0])[:5] == classic and list(lines[0])[-2:] == ["file", "output_dir"]
    assert lines[0]["file"] == str(recording) and lines[0]["output_dir"] is None
    assert done.returncode == 1
    assert "2 ok, 2 failed" in done.stderr and "notes.wav" in done.stderr


def test_calibrate_writes_what_predict_then_uses(recording, tiny_dir, tmp_path):
    model = shutil.copytree(tiny_dir, tmp_path / "tiny")
    before = json.loads(run("predict", recording, "--model", model, "--json", "--no-save").stdout)
    assert before["reliability"]["familiarity"] is None
    rows = ["path,label,speaker"]
    for i in range(102):
        clip = write_soundfile(
            tmp_path / f"{i}.wav", speechlike(0.5, seed=i), 16_000, "WAV", "PCM_16"
        )
        rows.append(f"{clip.name},{('Happy', 'sad', 'bored')[i % 3 if i > 90 else i % 2]},s{i % 4}")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join([*rows, "absent.wav,happy,s1", "notes.csv,angry,s2"]))
    few = run("calibrate", manifest, "--model", model)
    assert few.returncode == 1 and "at least 100 are needed" in few.stderr
    assert "bored" in few.stderr and "absent.wav" in few.stderr

    manifest.write_text("\n".join(rows).replace("bored", "angry"))
    done = run("calibrate", manifest, "--model", model)
    assert done.returncode == 0, done.stderr
    assert "102 recordings of tiny" in done.stdout and "4 speakers" in done.stdout
    assert str(model / "reference.npz") in done.stdout
    after = json.loads(run("predict", recording, "--model", model, "--json", "--no-save").stdout)
    # Nothing of the model's own answer changes.
    assert (after["scores"], after["confidence"]) == (before["scores"], before["confidence"])
    assert 0 <= after["reliability"]["familiarity"] <= 1
    assert 0 < after["reliability"]["calibrated_confidence"] <= 1
    findings = json.loads(run("doctor", "--model", model, "--json").stdout)
    assert any(str(model / "reference.npz") in finding["value"] for finding in findings)


def test_calibrate_says_what_is_wrong_with_a_manifest(tiny_dir, tmp_path):
    manifest = tmp_path / "clips.csv"
    for content, told in (
        ("file,label\na.wav,happy\n", "no column path; its columns are file, label"),
        ("path,label\na.wav,happy\n", "1 of its recordings can be used"),
        ("path,label\n" + "a.wav,happy\n" * 200, "all usable recordings have the label happy"),
        ("path,label\na.wav,\xe9\n".encode("latin-1"), "cannot be read"),
    ):
        manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = run("calibrate", manifest, "--model", tiny_dir)
        assert done.returncode == 1 and told in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert run("calibrate", tmp_path / "no.csv", "--model", tiny_dir).returncode == 1
    manifest.write_text("path,label\na.wav,happy\n")
    assert run("calibrate", manifest, "--model", "compact").returncode == 2


def test_robustness_prints_every_condition_and_repeats_itself(recording):
    answer = run("robustness", recording, "--model", "compact", "--json")
    outcomes = json.loads(answer.stdout)["outcomes"]
    codes = [outcome["condition"]["code"] for outcome in outcomes]
    assert codes[0] == "clean" and {"fan_0", "babble_10", "mp3_64", "telephone"} <= set(codes)
    table = run("robustness", recording, "--model", "compact").stdout
    for name in ("Clean clip", "Steady noise 0 dB", "Babble 10 dB", "MP3 64 kbit/s", "Telephone"):
        assert name in table.replace("\u00a0", " ")
    assert not [code for code in codes[1:] if code in table]
    assert "Neutral" in table.splitlines()[-1]
    # The same figures in another process.
    shares = [f"{outcome['confidence']:.1%}" for outcome in outcomes]
    assert re.findall(r"(\d+\.\d%) +[A-Z]", table) == shares


def test_wrong_usage_is_2_and_names_what_is_right(subtests):
    for arguments, words in [
        (["predcit", "a.wav"], ["predcit", "predict"]),
        (["predict"], ["FILE"]),
        (["predict", "a.wav", "--granulaity", "frame"], ["--granulaity", "--granularity"]),
        (["serve", "--server-prot", "1"], ["--server-prot", "--server-port"]),
        (["--server-prot", "1"], ["--server-port"]),
        (["serve", "--server-name", "0.0.0.0"], ["--auth", "--api-key"]),
    ]:
        with subtests.test(arguments=arguments):
            done = run(*arguments)
            assert done.returncode == 2 and done.stdout == ""
            assert all(word in done.stderr for word in words), done.stderr
            assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_said(recording, tmp_path):
    done = run("predict", recording, "--model", tmp_path / "nothing", "--offline", "--no-save")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "nothing" in done.stderr


def test_chinese_where_the_locale_is(recording):
    done = run("predict", recording, "--model", "compact", "--no-save", LANG="zh_CN.UTF-8")
    assert "内置小模型" in done.stdout


def test_help_is_quick_and_needs_no_torch(subtests):
    for arguments in [["--help"], ["serve", "--help"], ["--version"]]:
        with subtests.test(arguments=arguments):
            # Not a benchmark: ten times the goal of a second would mean that torch was imported.
            began = time.monotonic()
            assert run(*arguments).returncode == 0
            assert time.monotonic() - began < 10
    code = "import sys, emotion2vec_ui.cli; print({'torch', 'gradio'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "set()"


def run_sh(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(home / "run.sh"), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        env=clean_environment() | {"PATH": os.environ["PATH"]},
    )


@pytest.fixture
def home(tmp_path) -> Path:
    """The program in a path with spaces, set up already: the set-up is what runs these tests."""
    home = tmp_path / "a folder"
    home.mkdir()
    requirements = ("requirements.txt", "requirements-test.txt")
    for name in ("run.sh", *requirements, "app.py", "emotion2vec_ui", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for stamp, names in ((".installed", requirements[:1]), (".installed-test", requirements)):
        text = "".join((ROOT / name).read_text() for name in names)
        done = subprocess.run(["cksum"], input=text, capture_output=True, text=True, check=True)
        (home / ".venv" / stamp).write_text(done.stdout.strip())
    return home


def test_run_sh_takes_spaces_and_another_folder(home):
    done = run_sh(home, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().count(".") == 2


def test_run_sh_check_runs_every_check_and_then_the_tests(home, subtests):
    for fails in ["", "ruff", "mypy", "lint-imports"]:
        with subtests.test(fails=fails):
            # The tools themselves take minutes: programs stand here that say how they were called.
            for tool in ("ruff", "mypy", "lint-imports"):
                path = home / ".venv" / "bin" / tool
                path.write_text(f"#!/bin/sh\necho {tool} $*\nexit {int(tool == fails)}\n")
                path.chmod(0o755)
            done = run_sh(home, "check", "--version")
            calls = ["ruff check .", "ruff format --check .", "mypy", "lint-imports"]
            if fails:
                assert done.returncode == 1
                assert done.stdout.split("\n")[-2].split()[0] == fails
            else:
                assert done.returncode == 0, done.stderr
                *called, tests = done.stdout.strip().splitlines()
                assert [line.strip() for line in called] == calls and tests.startswith("pytest ")


def test_every_place_that_checks_runs_the_same_checks(subtests):
    for file in ["run.sh", ".ci/run", ".pre-commit-config.yaml"]:
        with subtests.test(file=file):
            text = (ROOT / file).read_text().replace('"', "")
            checks = ("ruff check", "ruff format", "mypy", "lint-imports")
            assert [check for check in checks if f"venv/bin/{check}" not in text] == []
