"""Result folders: complete or absent, never overwritten, whatever happens while writing."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.audio.load import to_pcm16
from emotion2vec_ui.errors import DiskFull, OutputError
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records import store as results
from emotion2vec_ui.records.report import parse
from tests.conftest import ROOT

REPORT = parse(
    json.dumps(
        {
            "emotion": "happy",
            "confidence": 1.0,
            "scores": {one: float(one == "happy") for one in EMOTIONS},
            "granularity": "utterance",
            "timestamp": "2026-01-04 22:30:00",
        }
    ).encode()
)
FILES = {"result.json", "processed_audio.wav", "embedding.npy"}


def save(outputs: Path) -> Path:
    return results.save(outputs, REPORT, speechlike(0.5), np.arange(1024, dtype=np.float32)).folder


def folders(outputs: Path) -> list[Path]:
    return sorted(path for path in outputs.iterdir() if path.name.startswith("outputs_"))


def assert_complete(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert parse((folder / "result.json").read_bytes()) == REPORT
    embedding = np.load(folder / "embedding.npy", allow_pickle=False)
    np.testing.assert_array_equal(embedding, np.arange(1024))
    assert embedding.dtype == np.float32 and embedding.flags.c_contiguous
    info = soundfile.info(folder / "processed_audio.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert info.frames == 8000


def test_a_taken_second_gets_a_number(tmp_path):
    names = [save(tmp_path).name for _ in range(3)]
    stem = "outputs_20260104_223000"
    assert names == [stem, f"{stem}_2", f"{stem}_3"]
    for folder in folders(tmp_path):
        assert_complete(folder)
    assert list((tmp_path / results.WRITING_DIR).iterdir()) == []


def _save_many(outputs: Path, count: int) -> None:
    for _ in range(count):
        save(outputs)


def test_processes_writing_in_the_same_second_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_save_many, args=(tmp_path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(folders(tmp_path)) == 100
    for folder in folders(tmp_path):
        assert_complete(folder)


KILL_100_WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
from tests.records.test_store import save
random.seed(0)
save(Path(sys.argv[1]))  # the first also imports
start = time.perf_counter()
save(Path(sys.argv[1]))
one_s = time.perf_counter() - start
for _ in range(100):
    child = os.fork()
    if child == 0:
        while True:
            save(Path(sys.argv[1]))
    # Up to five times what one folder takes, on this machine and with what else it does: every
    # step of it is hit.
    time.sleep(random.uniform(0, 5 * one_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_killed_at_any_moment_every_folder_is_complete_or_absent(tmp_path):
    # From a process of its own: forking one with pytest's threads would not be safe.
    subprocess.run([sys.executable, "-c", KILL_100_WRITERS, str(tmp_path)], cwd=ROOT, check=True)
    assert folders(tmp_path)
    for folder in folders(tmp_path):
        assert_complete(folder)
    # What was cut off lies aside and is swept at the next start.
    results.sweep(tmp_path)
    assert list((tmp_path / results.WRITING_DIR).iterdir()) == []


def test_sweeping_leaves_what_a_living_process_writes(tmp_path):
    alive = tmp_path / results.WRITING_DIR / f"{os.getpid()}-abc"
    alive.mkdir(parents=True)
    results.sweep(tmp_path)
    assert alive.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_nothing_and_works_again(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk])
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(50_000))
        with pytest.raises(DiskFull) as caught:
            save(disk)
        assert caught.value.status == 507
        assert folders(disk) == [] and list((disk / results.WRITING_DIR).iterdir()) == []
        ballast.unlink()
        assert_complete(save(disk))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file where the folder should be")
    with pytest.raises(OutputError) as caught:
        save(tmp_path / "outputs")
    assert "outputs" in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_old_folders_go_and_new_ones_stay(tmp_path):
    old, new = save(tmp_path), save(tmp_path)
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    (tmp_path / "notes").mkdir()
    os.utime(tmp_path / "notes", (two_days_ago, two_days_ago))
    assert results.remove_old(tmp_path, keep_days=1) == 1
    assert not old.exists() and new.exists() and (tmp_path / "notes").exists()


def test_above_the_bound_the_oldest_go_first(tmp_path):
    saved = [save(tmp_path) for _ in range(4)]
    for age, folder in enumerate(reversed(saved)):
        os.utime(folder, (1e9 - age, 1e9 - age))
    size = sum(path.stat().st_size for path in saved[0].iterdir())
    assert results.remove_excess(tmp_path, max_bytes=2 * size) == 2
    assert folders(tmp_path) == saved[2:]


def test_the_wav_is_the_nearest_16_bit_rendering(tmp_path):
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 0.25 / 32768] * 100, np.float32)
    folder = results.save(tmp_path, REPORT, samples, None).folder
    heard, _ = soundfile.read(folder / "processed_audio.wav", dtype="int16")
    assert heard[:7].tolist() == [0, 16384, -16384, 32767, -32768, 32767, 0]
    assert {path.name for path in folder.iterdir()} == FILES - {"embedding.npy"}


def test_a_recording_longer_than_one_piece_is_written_whole(tmp_path):
    samples = np.linspace(-1, 1, results.WAV_SAMPLES + 1000, dtype=np.float32)
    folder = results.save(tmp_path, REPORT, samples, None).folder
    written, rate = soundfile.read(folder / "processed_audio.wav", dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(written, to_pcm16(samples))
