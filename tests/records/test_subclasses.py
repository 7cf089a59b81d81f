"""Kept sets of sub-classes: versions, the current one, damage, and nothing that can run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion2vec_ui.errors import (
    DiskFull,
    OutputError,
    SubclassDamaged,
    SubclassNotFound,
    SubclassOfOtherModel,
    SubclassRefused,
)
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.subclasses import Trained
from tests import past_subclasses


def save(outputs: Path, **facts) -> int:
    return subclasses.save(outputs, past_subclasses.trained(**facts)).version


def test_what_was_saved_is_read_back(tmp_path):
    given = past_subclasses.trained(name="call-centre")
    card = subclasses.save(tmp_path, given)
    read = subclasses.load(tmp_path, "call-centre")
    assert read.card == card == replace(given.card, version=1)
    for field in ("mean", "scale", "weights", "bias"):
        assert np.array_equal(getattr(read.head, field), getattr(given.head, field))
    assert np.abs(read.head.samples - given.head.samples).max() < 1e-3
    assert (read.head.temperature, read.head.none_above) == (
        given.head.temperature,
        given.head.none_above,
    )


def test_the_files_are_json_and_safetensors(tmp_path):
    save(tmp_path, name="sets")
    folder = tmp_path / "subclasses" / "sets" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "head.safetensors"]
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert list(card)[:11] == [
        "name", "version", "base", "model", "classes", "samples", "speakers", "uar",
        "uar_interval", "coverage", "small",
    ]  # fmt: skip
    # The length of the header, then the header: no pickle begins so.
    content = (folder / "head.safetensors").read_bytes()
    assert content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content)


def test_versions_stay_and_an_older_one_can_be_used_again(tmp_path):
    assert [save(tmp_path, name="sets", uar=uar) for uar in (0.7, 0.8, 0.6)] == [1, 2, 3]
    assert subclasses.versions(tmp_path, "sets") == [1, 2, 3]
    assert subclasses.card(tmp_path, "sets").uar == 0.6
    subclasses.make_current(tmp_path, "sets", 2)
    assert subclasses.load(tmp_path, "sets").card.uar == 0.8
    assert subclasses.card(tmp_path, "sets", 1).uar == 0.7
    assert save(tmp_path, name="sets", uar=0.9) == 4  # what was trained last is used
    assert subclasses.current(tmp_path, "sets") == 4
    with pytest.raises(SubclassNotFound):
        subclasses.make_current(tmp_path, "sets", 9)
    assert subclasses.remove(tmp_path, "sets", 4) == [4]
    assert subclasses.current(tmp_path, "sets") == 3
    assert subclasses.remove(tmp_path, "sets") == [1, 2, 3]
    assert subclasses.names(tmp_path) == []
    assert list((tmp_path / "subclasses").iterdir()) == []


def test_names_in_order_and_only_what_is_complete(tmp_path):
    assert subclasses.names(tmp_path) == []
    save(tmp_path, name="客服")
    save(tmp_path, name="calls")
    (tmp_path / "subclasses" / "empty").mkdir()
    (tmp_path / "subclasses" / "calls" / ".writing-1-x").mkdir()
    assert subclasses.names(tmp_path) == ["calls", "客服"]
    assert subclasses.versions(tmp_path, "calls") == [1]


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    save(tmp_path, name="calls")
    for name in ("nothing", "../calls", "calls/1", ""):
        with pytest.raises(SubclassNotFound) as caught:
            subclasses.load(tmp_path, name)
        assert caught.value.facts["known"] == "calls"
    with pytest.raises(SubclassNotFound):
        subclasses.card(tmp_path, "calls", 2)


def test_a_name_is_a_folders_and_no_base_emotions(subtests):
    assert subclasses.checked_name(" call-centre_2 ") == "call-centre_2"
    assert subclasses.checked_name("客服") == "客服"
    for name in ("", "..", "a/b", "a b", "-x", ".hidden", "x" * 41, "a\x00"):
        with subtests.test(name=name), pytest.raises(SubclassRefused) as caught:
            subclasses.checked_name(name)
        assert "cannot be a name" in caught.value.message()
    for name in (*EMOTIONS, "Angry"):
        with subtests.test(name=name), pytest.raises(SubclassRefused) as caught:
            subclasses.checked_name(name)
        told = caught.value.message()
        assert "the model's own" in told and "relies on them" in told


def test_another_model_is_refused():
    trained = past_subclasses.trained(name="calls", weights_sha256="a" * 64, model="one")
    trained.require("a" * 64, "one")
    with pytest.raises(SubclassOfOtherModel) as caught:
        trained.require("b" * 64, "two")
    assert all(word in caught.value.message() for word in ("calls", "one", "two"))


def test_damage_is_told_and_an_older_version_still_works(tmp_path, subtests):
    for damage in ("card", "no card", "head", "no head", "format", "shape"):
        with subtests.test(damage=damage):
            name = damage.replace(" ", "-")
            save(tmp_path, name=name)
            save(tmp_path, name=name)
            folder = tmp_path / "subclasses" / name / "2"
            card, head = folder / "card.json", folder / "head.safetensors"
            if damage == "card":
                card.write_text(card.read_text("utf-8")[:-40])
            elif damage == "no card":
                card.unlink()
            elif damage == "head":
                head.write_bytes(head.read_bytes()[:-100])
            elif damage == "no head":
                head.unlink()
            elif damage == "format":
                card.write_text(card.read_text("utf-8").replace("subclass/1", "subclass/9"))
            else:
                changed = json.loads(card.read_text("utf-8")) | {"classes": ["a", "b", "c"]}
                card.write_text(json.dumps(changed))
            with pytest.raises(SubclassDamaged) as caught:
                subclasses.load(tmp_path, name)
            assert f"{name} 2" in caught.value.message()
            assert str(tmp_path) not in str(caught.value)
            subclasses.make_current(tmp_path, name, 1)
            assert subclasses.load(tmp_path, name).card.version == 1


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    save(tmp_path, name="calls")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        for name in ("calls", "new"):
            with pytest.raises(DiskFull):
                save(tmp_path, name=name)
    assert subclasses.names(tmp_path) == ["calls"]
    left = {path.name for path in (tmp_path / "subclasses" / "calls").iterdir()}
    assert left == {"1", "current"}


def test_a_place_that_is_no_folder_is_an_error(tmp_path):
    (tmp_path / "subclasses").write_text("in the way")
    with pytest.raises(OutputError):
        save(tmp_path, name="calls")


def test_the_trained_are_frozen():
    with pytest.raises(AttributeError):
        past_subclasses.trained().card.uar = 1.0  # type: ignore[misc]
    assert isinstance(past_subclasses.trained(), Trained)
