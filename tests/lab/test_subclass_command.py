"""`subclass` as a shell sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_cli import run

CONTRACT = [
    "name", "version", "base", "model", "classes", "samples", "speakers", "uar", "uar_interval",
    "coverage", "small",
]  # fmt: skip


@pytest.fixture(scope="module")
def outputs(labelled: Path, tiny_dir: Path, tmp_path_factory) -> Path:
    """With a set that was trained."""
    outputs = tmp_path_factory.mktemp("outputs")
    facts = ("--of", "angry", "--name", "hiss", "--model", tiny_dir, "--outputs", outputs)
    refused = run("subclass", "train", labelled, *facts)
    assert refused.returncode == 1 and "--allow-small" in refused.stderr
    assert refused.stdout == "" and "Traceback" not in refused.stderr
    assert not (outputs / "subclasses").exists()

    done = run("subclass", "train", labelled, *facts, "--allow-small", "--licence", "X", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert list(card)[: len(CONTRACT)] == CONTRACT
    assert card["classes"] == ["clear", "hissing"] and card["small"] and card["licence"] == "X"
    for words in ("12 recordings of 3 speakers", "fewer than 200", "24 / 24"):
        assert words in done.stderr
    return outputs


def test_predict_has_them_below_their_base(outputs, labelled, tiny_dir):
    clip = labelled.parent / "clear-0-0.wav"
    facts = ("--model", tiny_dir, "--outputs", outputs, "--no-save")
    plain = json.loads(run("predict", clip, *facts, "--json").stdout)
    divided = json.loads(run("predict", clip, *facts, "--subclass", "hiss", "--json").stdout)
    assert divided["scores"] == plain["scores"] and plain["subclasses"] is None
    one = divided["subclasses"]["hiss"]
    assert (one["version"], one["base"], one["small"]) == (1, "angry", True)
    parts = [*one["scores"].values(), one["none"]]
    assert round(sum(parts), 6) == plain["scores"]["angry"]
    words = run("predict", clip, *facts, "--subclass", "hiss").stdout
    assert "hiss 1, of Angry" in words and "hissing:" in words and "none of these:" in words
    missing = run("predict", clip, *facts, "--subclass", "nothing")
    assert missing.returncode == 1 and "Trained sets: hiss" in missing.stderr


def test_apply_takes_every_set_of_the_model(outputs, labelled, tiny_dir):
    clips = [labelled.parent / name for name in ("clear-0-0.wav", "absent.wav")]
    facts = ("--model", tiny_dir, "--outputs", outputs)
    done = run("subclass", "apply", *clips, *facts, "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert list(first["subclasses"]) == ["hiss"] and second["error"]["code"] == "cannot_read"
    assert done.returncode == 1
    assert "hiss 1, of Angry" in run("subclass", "apply", clips[0], *facts).stdout
    other = run("subclass", "apply", clips[0], "--model", "compact", "--outputs", outputs)
    assert other.returncode == 1 and "hiss" in other.stderr
    other = run(
        "subclass", "apply", clips[0], "--subclass", "hiss", "--model", "compact",
        "--outputs", outputs,
    )  # fmt: skip
    assert other.returncode == 1 and "were trained on embeddings of tiny" in other.stderr


def test_cards_versions_and_the_way_back(outputs, labelled, tiny_dir):
    place = ("--outputs", outputs)
    again = run(
        "subclass", "train", labelled, "--of", "angry", "--name", "hiss", "--allow-small",
        "--model", tiny_dir, *place, LANG="zh_CN.UTF-8",
    )  # fmt: skip
    assert again.returncode == 0 and "随机猜测" in again.stdout
    (current,) = json.loads(run("subclass", "list", "--json", *place).stdout)["subclasses"]
    assert (current["version"], current["current"]) == (2, True)
    assert run("subclass", "use", "hiss", 1, *place).returncode == 0
    listed = run("subclass", "list", "hiss", *place).stdout.splitlines()
    assert [line[:6] for line in listed] == ["* hiss", "  hiss"]
    assert json.loads(run("subclass", "show", "hiss", "--json", *place).stdout)["version"] == 1
    shown = run("subclass", "show", "hiss", "--version", 2, *place).stdout
    for words in ("95 % interval", "Nearest centroid", "Calibration error", "Licence: -"):
        assert words in shown
    removed = json.loads(run("subclass", "remove", "hiss", "--version", 2, "--json", *place).stdout)
    assert removed == {"name": "hiss", "removed": [2]}


def test_the_nine_can_be_neither_dropped_nor_renamed(outputs, labelled, tiny_dir):
    facts = ("--model", tiny_dir, "--outputs", outputs)
    for arguments in (
        ("remove", "angry", "--outputs", outputs),
        ("train", labelled, "--of", "angry", "--name", "sad", *facts),
    ):
        done = run("subclass", *arguments)
        assert done.returncode == 1 and "neither replaced, renamed nor removed" in done.stderr


def test_nothing_trained_is_said(tmp_path):
    done = run("subclass", "list", "--outputs", tmp_path)
    assert done.returncode == 0 and done.stdout == "" and "subclass train" in done.stderr
    assert json.loads(run("subclass", "list", "--json", "--outputs", tmp_path).stdout) == {
        "subclasses": []
    }
    absent = run("subclass", "show", "x", "--outputs", tmp_path)
    assert absent.returncode == 1 and "no sub-classes for x" in absent.stderr


def test_wrong_usage_is_2():
    for arguments in ((), ("train",), ("train", "x.csv", "--of", "angry"), ("lst",)):
        done = run("subclass", *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr
