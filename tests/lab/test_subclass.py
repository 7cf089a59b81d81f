"""Training and using sub-classes with a real model: nothing of the nine scores changes."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.errors import (
    ManifestError,
    SubclassNotFound,
    SubclassOfOtherModel,
    SubclassRefused,
)
from emotion2vec_ui.lab import subclass
from emotion2vec_ui.lab.samples import Samples
from emotion2vec_ui.pipeline import standalone
from emotion2vec_ui.pipeline.recogniser import Cancelled, Recogniser
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.records.report import parse, to_dict, to_json
from emotion2vec_ui.records.subclasses import Card
from emotion2vec_ui.settings import Settings
from tests import past


@pytest.fixture(scope="module")
def recogniser(tiny_dir, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    settings = Settings(model=str(tiny_dir), device="cpu", outputs=outputs)
    with standalone.recogniser(settings) as made:
        yield made


def train(recogniser: Recogniser, manifest: Path, name: str = "hiss", **facts) -> Card:
    callbacks = {
        key: facts.pop(key) for key in ("on_checked", "on_progress", "cancelled") if key in facts
    }
    wanted = subclass.Wanted(
        (manifest,), facts.pop("base", "angry"), name, facts.pop("allow_small", True), **facts
    )
    return subclass.train(
        wanted,
        subclass.recordings_in(recogniser.settings.outputs),
        recogniser,
        lambda: recogniser.holder.get(60.0),
        **callbacks,
    )


@pytest.fixture(scope="module")
def card(recogniser, labelled) -> Card:
    return train(recogniser, labelled, licence="CC0-1.0")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "call.wav"
    return write_soundfile(path, speechlike(1, seed=7), 16_000, "WAV", "PCM_16")


def test_the_card_says_what_was_trained(card, recogniser):
    assert (card.name, card.version, card.base, card.classes) == (
        "hiss", 1, "angry", ("clear", "hissing"),
    )  # fmt: skip
    assert (card.samples, card.speakers, card.small) == (24, 3, True)
    assert card.weights_sha256 == recogniser.holder.get(1.0).weights_sha256
    assert card.licence == "CC0-1.0" and card.chance == 0.5
    low, high = card.uar_interval
    assert 0 <= low <= card.uar <= high <= 1 and card.above_chance == (low > 0.5)
    assert sum(map(sum, card.confusion)) == 24
    clear = card.coverage["clear"]
    assert (clear.samples, clear.speakers) == (12, 3)
    assert clear.genders == {"f": 8, "m": 4} and clear.ages == {"30-39": 12}
    assert {"few_samples", "few_speakers"} <= set(clear.gaps)


def test_the_nine_scores_stay_bit_for_bit(card, recogniser, recording, subtests):
    for granularity in ("utterance", "frame"):
        with subtests.test(granularity=granularity):
            plain = recogniser.analyse(recording, granularity=granularity, save=False).report
            divided = recogniser.analyse(
                recording, granularity=granularity, subclass=["hiss"], save=False
            ).report
            assert plain.subclasses is None
            assert divided.scores == plain.scores and divided.nine_scores == plain.nine_scores
            assert (divided.emotion, divided.confidence) == (plain.emotion, plain.confidence)
            assert divided.reliability == plain.reliability
            assert divided.distribution == plain.distribution


def test_the_parts_sum_to_the_score_of_the_base(card, recogniser, recording):
    train(recogniser, Path(card_manifest(recogniser)), "other-set", base="neutral")
    report = recogniser.analyse(recording, subclass=["hiss", "other-set"], save=False).report
    content = to_dict(report)
    assert list(content["subclasses"]) == ["hiss", "other-set"]
    for name, base in (("hiss", "angry"), ("other-set", "neutral")):
        one = content["subclasses"][name]
        assert list(one) == ["version", "base", "scores", "none", "small"]
        assert (one["version"], one["base"], one["small"]) == (1, base, True)
        parts = [*one["scores"].values(), one["none"]]
        assert round(sum(parts), 6) == content["scores"][base]
    assert parse(to_json(report)).subclasses == report.subclasses


def card_manifest(recogniser: Recogniser) -> Path:
    """The manifest again, beside links to past results: see `labelled`."""
    return Path(recogniser.settings.outputs) / "clips.csv"


@pytest.fixture(scope="module", autouse=True)
def copied(recogniser, labelled):
    for path in labelled.parent.iterdir():
        shutil.copy(path, recogniser.settings.outputs / path.name)


def test_training_again_hears_nothing_anew(card, recogniser, labelled, monkeypatch):
    def unheard(path: Path, name: str):
        raise AssertionError(name)

    monkeypatch.setattr(recogniser, "decode", unheard)
    steps: list[tuple[str, int, int]] = []
    again = train(recogniser, labelled, on_progress=lambda *step: steps.append(step))
    assert again.version == card.version + 1 and again.data_sha256 == card.data_sha256
    assert (again.uar, again.confusion) == (card.uar, card.confusion)
    assert ("hear", 24, 24) in steps and steps[-1][0] == "fit" and steps[-1][1] == steps[-1][2]
    subclasses.remove(recogniser.settings.outputs, "hiss", again.version)


def test_lines_that_cannot_be_used_are_left_out_and_named(recogniser, labelled, tmp_path):
    folder = shutil.copytree(labelled.parent, tmp_path / "clips")
    (folder / "clear-0-0.wav").unlink()
    (folder / "clear-0-1.wav").write_text("no sound")
    shutil.copy(folder / "clear-0-2.wav", folder / "clear-0-3.wav")
    manifest = folder / "clips.csv"
    manifest.write_text(manifest.read_text("utf-8").replace("clear-1-0.wav,clear,s1", "clear-1-0.wav,clear,"))  # noqa: E501  # fmt: skip
    seen: list[Samples] = []
    with pytest.raises(SubclassRefused) as caught:
        train(recogniser, manifest, "holes", on_checked=seen.append)
    assert "clear has 8 recordings" in caught.value.message()
    left_out = {one.path: (one.reason, one.detail) for one in seen[0].left_out}
    assert left_out == {
        "clear-0-0.wav": ("unusable", "cannot_read"),
        "clear-0-1.wav": ("unusable", "cannot_decode"),
        "clear-0-3.wav": ("copy", "clear-0-2.wav"),
        "clear-1-0.wav": ("no_speaker", ""),
    }
    assert "holes" not in subclasses.names(recogniser.settings.outputs)


def test_what_cannot_be_is_refused_before_anything_is_heard(recogniser, labelled, subtests):
    for facts, told in (
        ({"name": "happy"}, "the model's own"),
        ({"name": "a/b"}, "cannot be a name"),
        ({"name": "x", "base": "fury"}, "none of the base emotions"),
        ({"name": "x", "allow_small": False}, "--allow-small"),
    ):
        with subtests.test(facts=facts), pytest.raises(SubclassRefused) as caught:
            subclass.train(
                subclass.Wanted(
                    (labelled,),
                    facts.get("base", "angry"),
                    facts["name"],
                    facts.get("allow_small", True),
                ),
                subclass.recordings_in(recogniser.settings.outputs),
                recogniser,
                lambda: pytest.fail("the model was asked for"),
            )
        assert told in caught.value.message()


def test_a_manifest_may_name_past_results(recogniser, tmp_path):
    outputs = recogniser.settings.outputs
    folder = past.save(outputs)
    manifest = tmp_path / "chosen.csv"
    find = partial(subclass.recordings_in(outputs), manifest.parent)
    heard = outputs / folder / "processed_audio.wav"
    assert find(folder) == find(f"outputs/{folder}/processed_audio.wav") == heard
    assert find("outputs_20200101_000000") == tmp_path / "outputs_20200101_000000"
    # A deleted result is left out like any file that is not there.
    manifest.write_text(
        "path,label,speaker\n"
        + "".join(f"outputs_20200101_00000{i % 9},{'ab'[i % 2]},s{i % 3}\n" for i in range(30))
    )
    with pytest.raises(ManifestError, match="30 recordings were left out"):
        train(recogniser, manifest, "gone")


def test_several_manifests_are_one(card, recogniser, labelled):
    """A selection of the map has one label: two of them make a set."""
    header, *rows = labelled.read_text("utf-8").splitlines()
    parts = []
    for label in card.classes:
        part = labelled.parent / f"only-{label}.csv"
        part.write_text("\n".join([header, *(row for row in rows if f",{label}," in row)]))
        parts.append(part)
    wanted = subclass.Wanted(tuple(parts), "angry", "two-parts", allow_small=True)
    find = subclass.recordings_in(recogniser.settings.outputs)
    made = subclass.train(wanted, find, recogniser, lambda: recogniser.holder.get(60.0))
    assert made.data_sha256 == card.data_sha256


def test_it_can_be_stopped(recogniser, labelled):
    with pytest.raises(Cancelled):
        train(recogniser, labelled, "stopped", cancelled=lambda: True)
    assert "stopped" not in subclasses.names(recogniser.settings.outputs)


def test_another_model_and_an_unknown_name_are_refused(card, recogniser, recording):
    outputs = recogniser.settings.outputs
    with pytest.raises(SubclassNotFound):
        recogniser.analyse(recording, subclass=["nothing"], save=False)
    with (
        standalone.recogniser(Settings(model="compact", device="cpu", outputs=outputs)) as other,
        pytest.raises(SubclassOfOtherModel, match="compact answers now"),
    ):
        other.analyse(recording, subclass=["hiss"], save=False)
