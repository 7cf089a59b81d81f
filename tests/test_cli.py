"""The command line as a shell sees it: output, exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment
from tests.media import speechlike, write_soundfile


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
    done = run("predict", recording, "--model", "compact", "--outputs", tmp_path)
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


def test_paths_are_relative_to_where_the_user_is(recording):
    done = run("predict", recording.name, "--no-save", "--model", "compact", cwd=recording.parent)
    assert done.returncode == 0, done.stderr


def test_robustness_prints_every_condition_and_repeats_itself(recording):
    answers = [run("robustness", recording, "--model", "compact", "--json") for _ in range(2)]
    reports = [json.loads(answer.stdout) for answer in answers]
    assert reports[0]["outcomes"] == reports[1]["outcomes"]
    codes = [outcome["condition"]["code"] for outcome in reports[0]["outcomes"]]
    assert codes[0] == "clean" and {"fan_0", "babble_10", "mp3_64", "telephone"} <= set(codes)
    table = run("robustness", recording, "--model", "compact").stdout
    for name in ("Clean clip", "Steady noise 0 dB", "Babble 10 dB", "MP3 64 kbit/s", "Telephone"):
        assert name in table.replace("\u00a0", " ")
    assert not [code for code in codes[1:] if code in table]
    assert "Neutral" in table.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predcit", "a.wav"], ["predcit", "predict"]),
        (["predict"], ["FILE"]),
        (["predict", "a.wav", "--granulaity", "frame"], ["--granulaity", "--granularity"]),
        (["serve", "--server-prot", "1"], ["--server-prot", "--server-port"]),
        (["--server-prot", "1"], ["--server-port"]),
        (["serve", "--server-name", "0.0.0.0"], ["--auth", "--api-key"]),
    ],
)
def test_wrong_usage_is_2_and_names_what_is_right(arguments, words):
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


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_is_quick_and_needs_no_torch(arguments):
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


@pytest.mark.parametrize("fails", ["", "ruff", "mypy", "lint-imports"])
def test_run_sh_check_runs_every_check_and_then_the_tests(home, fails):
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


@pytest.mark.parametrize("file", ["run.sh", ".ci/run", ".pre-commit-config.yaml"])
def test_every_place_that_checks_runs_the_same_checks(file):
    text = (ROOT / file).read_text().replace('"', "")
    checks = ("ruff check", "ruff format", "mypy", "lint-imports")
    assert [check for check in checks if f"venv/bin/{check}" not in text] == []
