"""What may be given, and what is told of what may not; nothing that is there is ever lost."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.batch.manifest import select
from emotion2vec_ui.errors import ManifestError, NoRecordings
from tests.batch.conftest import NAMES


def names(given: str | Path, **options) -> list[str]:
    return [file.name for file in select(str(given), **options).files(lambda error: None)]


def test_a_folder_gives_its_recordings_at_any_depth(recordings):
    assert sorted(names(recordings)) == sorted(NAMES)


def test_a_pattern_is_relative_to_its_part_without_wildcards(recordings):
    inside = {"客服 a/deep/five.m4a", "客服 a/six.mp4"}
    assert set(names(recordings / "**" / "*.m[4p][a4]")) == inside
    selection = select(str(recordings / "客服 a" / "d*" / "*.ogg"))
    assert selection.root == recordings / "客服 a"
    assert [file.name for file in selection.files(print)] == ["deep/four.ogg"]


def test_brackets_in_a_folders_name_are_no_pattern(tmp_path):
    folder = tmp_path / "calls [1]"
    folder.mkdir()
    write_soundfile(folder / "a.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    assert names(folder) == ["a.wav"]


def test_a_manifest_is_relative_to_its_folder(recordings, tmp_path):
    other = write_soundfile(tmp_path / "other.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    manifest = recordings / "list.csv"
    lines = ["file,speaker", "one.wav,a", f"{recordings}/two.FLAC,b", f"{other},c", "absent.wav,d"]
    manifest.write_text("\n".join(lines), "utf-8")
    assert names(manifest, path_column="file") == [
        "one.wav", "two.FLAC", other.as_posix(), "absent.wav",
    ]  # fmt: skip


def test_a_manifest_with_other_columns_is_refused_by_their_names(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,customer,label\na.wav,1,happy\n")
    with pytest.raises(ManifestError, match=r"columns customer are not known; .* path, label"):
        select(str(manifest))
    assert names(manifest, any_columns=True) == ["a.wav"]
    manifest.write_text("file,label\na.wav,happy\n")
    with pytest.raises(ManifestError, match="no column path; its columns are file, label"):
        select(str(manifest))


def test_a_pipe_is_no_recording(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert names(tmp_path) == []


def test_what_is_not_there_is_said(tmp_path):
    for given in (tmp_path / "nothing", tmp_path / "nothing" / "*.wav"):
        with pytest.raises(NoRecordings, match=r"no such file|does not exist"):
            select(str(given))


def test_a_manifest_with_a_file_twice_and_one_that_is_absent(batch, recordings, tmp_path):
    manifest = recordings / "list.csv"
    manifest.write_text("path\none.wav\n./one.wav\nabsent.wav\n")
    out = tmp_path / "results.csv"
    done = batch(manifest, "--out", out)
    assert done.returncode == 1 and "absent.wav: Cannot open absent.wav" in done.stderr
    with out.open(encoding="utf-8", newline="") as file:
        found = {row["path"]: row["status"] for row in csv.DictReader(file)}
    assert found == {"one.wav": "ok", "absent.wav": "cannot_read"}
    # It may be there the next time.
    write_soundfile(recordings / "absent.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    assert batch(manifest, "--out", out).returncode == 0


def test_wrong_usage_is_told_before_anything_is_written(batch, recordings, tmp_path, subtests):
    for arguments, words in (
        ([recordings, "--out", tmp_path / "a.xlsx"], "none of .parquet, .csv, .jsonl"),
        ([recordings, "--out", tmp_path / "a.csv", "--embedding"], "Use --out with .parquet"),
        ([recordings, recordings, "--out", tmp_path / "a.csv"], "Put a pattern in quotes"),
        ([recordings], "--out"),
    ):
        with subtests.test(words=words):
            done = batch(*arguments)
            assert done.returncode == 2 and words in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]


def test_a_folder_without_recordings_leaves_nothing_behind(batch, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    done = batch(folder, "--out", tmp_path / "a.csv")
    assert done.returncode == 1 and "there is no recording" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_another_file_is_never_overwritten(batch, recordings, tmp_path):
    out = tmp_path / "results.csv"
    out.write_text("mine")
    done = batch(recordings, "--out", out)
    assert done.returncode == 1 and "results.csv is there already" in done.stderr
    assert out.read_text() == "mine" and not (tmp_path / "results.csv.journal").exists()


def test_a_run_on_other_terms_needs_another_file(batch, recordings, tiny_dir, tmp_path, subtests):
    out = tmp_path / "results.csv"
    batch(recordings / "one.wav", "--out", out)
    before = out.read_bytes()
    other = recordings / "客服 a" / "deep" / "four.ogg"
    for arguments, words in (
        (["--model", tiny_dir], "another model (compact; this run has tiny)"),
        (["--granularity", "frame"], "another granularity"),
        (["--precision", "bf16"], "another precision"),
    ):
        with subtests.test(words=words):
            done = batch(recordings / "one.wav", "--out", out, *arguments)
            assert done.returncode == 1 and words in done.stderr, done.stderr
            assert "Nothing was changed" in done.stderr and out.read_bytes() == before
    done = batch(other, "--out", out)
    assert done.returncode == 1 and "another folder" in done.stderr
    # In the same folder it is one more row.
    assert batch(recordings / "two.FLAC", "--out", out).returncode == 0
    assert len(out.read_text("utf-8").splitlines()) == 3


def test_a_name_that_is_no_text(batch, tmp_path):
    """Such names are on old disks: GBK or Latin-1 in a UTF-8 file system."""
    folder = tmp_path / "old"
    folder.mkdir()
    sound = write_soundfile(folder / "a.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    sound.rename(os.fsdecode(os.fsencode(folder) + b"/\xc4\xe3.wav"))
    for out in (tmp_path / "results.csv", tmp_path / "results.parquet"):
        done = batch(folder, "--out", out)
        assert done.returncode == 0, done.stderr
    assert r"\xc4\xe3.wav,"[1:] in (tmp_path / "results.csv").read_text("utf-8")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(batch, recordings, tmp_path):
    closed = recordings / "客服 a"
    closed.chmod(0)
    try:
        done = batch(recordings, "--out", tmp_path / "results.csv")
    finally:
        closed.chmod(0o755)
    assert done.returncode == 1 and "the folder cannot be read" in done.stderr
    assert "4 rows" not in done.stdout and "3 rows" in done.stdout
