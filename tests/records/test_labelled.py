"""Labels in the forms that corpora come in; audformat's written by its own library."""

from __future__ import annotations

import json
from pathlib import Path

import audformat
import pytest

from emotion2vec_ui.errors import ManifestError
from emotion2vec_ui.records.labelled import Columns, LabelSet, read

# audformat 1.4.3 uses what pandas 3.1 is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def told(labels: LabelSet) -> dict[str, str]:
    """Emotion by path below the root."""
    return {one.path.relative_to(labels.root).as_posix(): one.truth for one in labels.clips}


# --- CSV ------------------------------------------------------------------------------------------


def test_csv(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "path,emotion,speaker,gender,language,corpus\n"
        "a/1.wav,anger,01,F,de,emodb\n"
        "a/2.wav,Happiness,02,male,de,emodb\n"
        "./a/1.wav,ang,01,F,de,emodb\n"
        "a/3.wav,boredom,03,m,de,emodb\n"
        "a/4.wav,,03,m,de,emodb\n",
        "utf-8",
    )
    labels = read(manifest, Columns(), {})
    assert labels.form == "csv"
    assert told(labels) == {"a/1.wav": "angry", "a/2.wav": "happy"}
    first, second = labels.clips
    assert (first.speaker, first.gender, first.language, first.corpus) == (
        "01", "female", "de", "emodb",
    )  # fmt: skip
    assert second.gender == "male"
    assert labels.names == {"anger": ("angry", 1), "Happiness": ("happy", 1)}
    assert labels.left_out == {"boredom": 1, "": 1}
    assert labels.repeated == 1
    assert told(read(manifest, Columns(), {"boredom": "other"}))["a/3.wav"] == "other"


def test_columns_of_other_names_and_paths_from_elsewhere(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("file,said,who\n1.wav,sad,x\n")
    columns = Columns(path="file", label="said", speaker="who")
    labels = read(manifest, columns, {}, root=tmp_path / "audio")
    assert [(one.path, one.speaker) for one in labels.clips] == [(tmp_path / "audio/1.wav", "x")]


def test_what_a_csv_must_and_may_have_is_told(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\n1.wav,sad\n")
    with pytest.raises(ManifestError, match="no column emotion; its columns are path, label"):
        read(manifest, Columns(), {})
    assert len(read(manifest, Columns(label="label"), {}).clips) == 1
    manifest.write_text("path,emotion,take\n1.wav,sad,1\n")
    with pytest.raises(ManifestError, match="columns take are not known"):
        read(manifest, Columns(), {})
    assert len(read(manifest, Columns(any_columns=True), {}).clips) == 1


def test_one_file_with_two_labels_is_an_error(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,emotion\n1.wav,sad\n./1.wav,happy\n")
    with pytest.raises(ManifestError, match=r"1\.wav is listed as sad and as happy"):
        read(manifest, Columns(), {})


# --- EmoBox ---------------------------------------------------------------------------------------


def emobox(root: Path) -> Path:
    """The layout of https://github.com/emo-box/EmoBox, with two lines of CaFE."""
    fold = root / "data" / "cafe" / "fold_1"
    lines = [
        {"key": f"cafe-08-{letter}", "dataset": "cafe", "wav": f"downloads/cafe/08-{letter}.wav",
         "type": "raw", "sample_rate": 48000, "num_frame": 168833.0, "task": "category",
         "length": 3.5, "emo": letter.lower(), "channel": 1}
        for letter in "PJ"
    ]  # fmt: skip
    touch(*(root / line["wav"] for line in lines))
    fold.mkdir(parents=True)
    path = fold / "cafe_test_fold_1.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    (fold.parent / "label_map.json").write_text('{"p": "Fear", "j": "Happy"}')
    return path


def test_emobox(tmp_path):
    """Paths are from the repository's root; labels mean what the corpus's map says."""
    labels = read(emobox(tmp_path), Columns(), {})
    assert labels.form == "emobox" and labels.root == tmp_path.resolve()
    assert told(labels) == {
        "downloads/cafe/08-P.wav": "fearful",
        "downloads/cafe/08-J.wav": "happy",
    }
    assert {one.corpus for one in labels.clips} == {"cafe"}


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = emobox(tmp_path)
    path.write_text(path.read_text() + "{oops\n")
    with pytest.raises(ManifestError, match="line 3 is no JSON object"):
        read(path, Columns(), {})
    path.write_text("\n")
    with pytest.raises(ManifestError, match="no lines"):
        read(path, Columns(), {})
    path.write_text('{"wav": "a.wav"}\n')
    with pytest.raises(ManifestError, match="no column emo"):
        read(path, Columns(), {})


# --- Hugging Face ---------------------------------------------------------------------------------


def test_folders_named_after_classes(tmp_path):
    touch(
        tmp_path / "train" / "anger" / "1.wav",
        tmp_path / "test" / "joy" / "2.flac",
        tmp_path / "test" / "laughter" / "3.ogg",
        tmp_path / "test" / "joy" / "notes.txt",
        tmp_path / ".cache" / "joy" / "4.wav",
    )
    labels = read(tmp_path, Columns(), {})
    assert labels.form == "audiofolder"
    assert told(labels) == {"train/anger/1.wav": "angry", "test/joy/2.flac": "happy"}
    assert labels.left_out == {"laughter": 1}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_metadata(tmp_path, ending):
    """One metadata file in each split; paths are relative to it, other columns do not matter."""
    for split, label in (("train", "anger"), ("test", "sadness")):
        folder = tmp_path / split
        folder.mkdir()
        row = {
            "file_name": "clips/1.wav",
            "transcription": "a, b",
            "emotion": label,
            "speaker": "x",
        }
        if ending == "csv":
            text = ",".join(row) + "\n" + ",".join(f'"{cell}"' for cell in row.values()) + "\n"
        else:
            text = json.dumps(row) + "\n"
        (folder / f"metadata.{ending}").write_text(text)
    labels = read(tmp_path, Columns(), {})
    assert told(labels) == {"test/clips/1.wav": "sad", "train/clips/1.wav": "angry"}
    assert {one.speaker for one in labels.clips} == {"x"}


def test_what_is_none_of_the_forms_is_told(tmp_path):
    (tmp_path / "labels.xlsx").touch()
    for given, words in (
        (tmp_path / "labels.xlsx", "none of the known forms"),
        (tmp_path, "none of the known forms"),
        (tmp_path / "nothing.csv", "no such file"),
    ):
        with pytest.raises(ManifestError, match=words):
            read(given, Columns(), {})


# --- audformat ------------------------------------------------------------------------------------


def database(folder: Path) -> audformat.Database:
    """Two files with labels and speakers, and one label of a part of a file."""
    found = audformat.Database("mini", languages=["de"])
    found.schemes["emotion"] = audformat.Scheme(labels=["anger", "happiness"])
    found.schemes["speaker"] = audformat.Scheme(
        labels={"3": {"gender": "male"}, "8": {"gender": "female"}}
    )
    files = audformat.filewise_index(["wav/a.wav", "wav/b.wav"])
    found["files"] = audformat.Table(files)
    found["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    found["files"]["speaker"].set(["3", "8"])
    found["emotion"] = audformat.Table(files)
    found["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
    found["emotion"]["emotion"].set(["anger", "happiness"])
    found["parts"] = audformat.Table(audformat.segmented_index(["wav/b.wav"], ["0s"], ["1s"]))
    found["parts"]["emotion"] = audformat.Column(scheme_id="emotion")
    found["parts"]["emotion"].set(["anger"])
    found.save(folder, storage_format="csv")
    return found


def test_audformat(tmp_path):
    database(tmp_path)
    for given in (tmp_path, tmp_path / "db.yaml"):
        labels = read(given, Columns(), {})
        assert labels.form == "audformat"
        assert told(labels) == {"wav/a.wav": "angry", "wav/b.wav": "happy"}
        first, second = labels.clips
        assert (first.speaker, first.gender, first.language, first.corpus) == (
            "3", "male", "deu", "mini",
        )  # fmt: skip
        assert (second.speaker, second.gender) == ("8", "female")
        assert labels.segments == 1


def test_audformat_without_labels_of_whole_files(tmp_path):
    database(tmp_path)
    with pytest.raises(ManifestError, match="1 labels are of parts of files"):
        read(tmp_path, Columns(tables=("parts",)), {})
    with pytest.raises(ManifestError, match=r"no table of whole files .* mood; there are emotion"):
        read(tmp_path, Columns(label="mood"), {})
    (tmp_path / "db.emotion.csv").write_text("damaged")
    with pytest.raises(ManifestError, match="cannot be read"):
        read(tmp_path, Columns(), {})
