"""The samples of sub-classes: what a manifest may say, copies, and what they cover."""

from __future__ import annotations

import numpy as np
import pytest

from emotion2vec_ui.errors import ManifestError, OutputError, SubclassRefused
from emotion2vec_ui.lab import samples
from emotion2vec_ui.lab.embedding_cache import EmbeddingCache, Heard
from emotion2vec_ui.lab.samples import Listed, Sample


def manifest(folder, *rows: str, header: str = "path,label,speaker"):
    path = folder / "clips.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


def read(folder, *rows: str, **facts: str) -> list[Listed]:
    return samples.read_manifest(manifest(folder, *rows, **facts), lambda name: folder / name)


def test_lines_are_read_as_written(tmp_path):
    header = "speaker,path,label,gender,age,note"
    (one,) = read(tmp_path, "s1,a b.wav, 愤怒的 ,F,31,x", header=header)
    assert one == Listed("a b.wav", tmp_path / "a b.wav", "愤怒的", "s1", "f", "31")


def test_a_label_is_no_base_emotion(tmp_path, subtests):
    for label in ("sad", "Angry", "unknown"):
        with subtests.test(label=label), pytest.raises(SubclassRefused) as caught:
            read(tmp_path, f"a.wav,{label},s1")
        assert "cannot be replaced or renamed" in caught.value.message()
    for label in ("none", "", "x" * 41, "a\x07"):
        with subtests.test(label=label), pytest.raises(SubclassRefused) as caught:
            read(tmp_path, f"a.wav,{label},s1")
        assert "cannot name a sub-class" in caught.value.message()


def test_what_is_no_manifest_is_told(tmp_path):
    with pytest.raises(ManifestError, match="no column speaker"):
        read(tmp_path, "a.wav,loud", header="path,label")
    with pytest.raises(ManifestError, match="no lines"):
        read(tmp_path)


def lines(*counts: tuple[str, int, int]) -> list[tuple[str, str]]:
    """`samples` recordings of a label, of `speakers` in turn."""
    return [(label, f"s{i % speakers}") for label, n, speakers in counts for i in range(n)]


def test_200_samples_of_5_speakers_are_enough(tmp_path, subtests):
    enough = lines(("a", 200, 5), ("b", 200, 5))
    samples.require_enough(tmp_path, enough, allow_small=False)
    for case in (
        [("a", 199, 5), ("b", 200, 5)],
        [("a", 200, 4), ("b", 200, 5)],
    ):
        with subtests.test(case=case):
            with pytest.raises(SubclassRefused) as caught:
                samples.require_enough(tmp_path, lines(*case), allow_small=False)
            assert "--allow-small" in caught.value.message()
            samples.require_enough(tmp_path, lines(*case), allow_small=True)


def test_what_cannot_be_judged_is_refused_whatever_is_allowed(tmp_path, subtests):
    for case, told in (
        ([("a", 300, 9)], "only one label is left, a"),
        ([("a", 300, 1), ("b", 300, 1)], "300 recordings of 1 speakers"),
        ([("a", 300, 2), ("b", 300, 9)], "300 recordings of 2 speakers"),
        ([("a", 9, 9), ("b", 300, 9)], "9 recordings of 9 speakers"),
    ):
        with subtests.test(case=case):
            for allow_small in (False, True):
                with pytest.raises((SubclassRefused, ManifestError)) as caught:
                    samples.require_enough(tmp_path, lines(*case), allow_small=allow_small)
                assert told in caught.value.message()
    with pytest.raises(ManifestError, match="no line says who speaks"):
        samples.require_enough(tmp_path, [("a", ""), ("b", "")] * 300, allow_small=True)


def sample(name: str, embedding, *, label="a", sha256="", speaker="s1", quality="good", **facts):
    listed = Listed(name, None, label, speaker, facts.pop("gender", ""), facts.pop("age", ""))
    heard = Heard(np.array(embedding, np.float32), facts.pop("duration_s", 2.0), quality)
    return Sample(listed, sha256 or name, heard)


def test_each_recording_is_used_once():
    given = [
        sample("one", [1, 0, 0]),
        sample("its file again", [1, 0, 0], sha256="one"),
        sample("quieter", [0.5, 0.001, 0]),
        sample("another", [0.9, 0.3, 0]),
        sample("broken", [np.nan, 0, 0]),
        sample("nothing", [0, 0, 0]),
    ]
    used, left_out = samples._without_copies(given)
    assert [one.listed.name for one in used] == ["one", "another"]
    assert [(one.path, one.reason, one.detail) for one in left_out] == [
        ("its file again", "copy", "one"),
        ("quieter", "near_copy", "one"),
        ("broken", "unusable", "not_finite"),
        ("nothing", "unusable", "not_finite"),
    ]


def test_one_recording_with_two_labels_is_refused():
    for again in ({"sha256": "one"}, {}):
        given = [sample("one", [1, 0]), sample("two", [1, 0], label="b", **again)]
        with pytest.raises(SubclassRefused) as caught:
            samples._without_copies(given)
        told = caught.value.message()
        assert all(f" {word}" in told for word in ("one", "two", "a", "b"))


def test_what_the_samples_cover():
    rng = np.random.default_rng(0)
    ages = ["31", "39.5", "", "adult"]
    given = [
        sample(
            str(i),
            rng.normal(size=8),
            label="a" if i < 12 else "b",
            speaker=f"s{i % 4}",
            gender="f" if i < 12 else ("", "m")[i % 2],
            age=ages[i % 4],
            duration_s=1.0 + i,
            quality="poor" if i < 5 else "good",
        )
        for i in range(60)
    ]
    used, copies = samples._without_copies(given)
    covered = samples._coverage(used, copies, [one.listed for one in given])
    assert list(covered) == ["a", "b"]
    a, b = covered["a"], covered["b"]
    assert (a.samples, a.speakers, b.samples) == (12, 4, 48)
    assert a.genders == {"f": 12} and b.genders == {"m": 24, "unknown": 24}
    assert a.ages == {"30-39": 6, "adult": 3, "unknown": 3}
    assert (a.duration_s.min, a.duration_s.median, a.duration_s.max) == (1.0, 6.5, 12.0)
    assert a.duration_s.total == sum(range(1, 13))
    assert a.quality == {"good": 7, "fair": 0, "poor": 5}
    assert a.gaps == ("few_samples", "few_speakers", "one_gender", "unequal", "poor_quality")
    assert b.gaps == ("few_samples", "few_speakers")


def test_an_embedding_is_kept_for_one_model_and_precision(tmp_path):
    path = tmp_path / "deep" / "cache.sqlite"
    heard = Heard(np.arange(5, dtype=np.float32), 1.5, "fair")
    EmbeddingCache(path, "w1", "fp32").put("clip", heard)
    found = EmbeddingCache(path, "w1", "fp32").get("clip")
    assert np.array_equal(found.embedding, heard.embedding)
    assert (found.duration_s, found.quality) == (1.5, "fair")
    for model in (("w2", "fp32"), ("w1", "int8")):
        assert EmbeddingCache(path, *model).get("clip") is None
    assert EmbeddingCache(path, "w1", "fp32").get("other") is None


def test_a_cache_that_is_none_is_an_error(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_text("this is no database, however long it is made, and so nothing is kept in it")
    with pytest.raises(OutputError):
        EmbeddingCache(path, "w1", "fp32")
