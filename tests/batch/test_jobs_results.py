"""Jobs that keep each recording as a result of its own: as one recognition does, and each once."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.batch.job_list import COMPLETED, FAILED, QUEUED, Job, JobList
from emotion2vec_ui.batch.jobs import Jobs
from emotion2vec_ui.lab.index import spaces
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import store, subclasses
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import Settings
from tests import past_subclasses
from tests.batch.test_jobs import send, wait
from tests.past import EXAMPLE


@pytest.fixture(scope="module")
def holder() -> Iterator[ModelHolder]:
    made = ModelHolder(Settings(model="compact", device="cpu"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def serve(holder) -> Iterator[Callable[[Path], tuple[Recogniser, Jobs]]]:
    """What one server after another would have for one outputs folder."""
    made: list[tuple[Recogniser, Jobs]] = []

    def start(outputs: Path) -> tuple[Recogniser, Jobs]:
        settings = Settings(model="compact", device="cpu", outputs=outputs)
        recogniser = Recogniser(settings, holder, lambda path, name: load(path, name=name))
        made.append((recogniser, Jobs(settings, recogniser)))
        return made[-1]

    yield start
    for recogniser, jobs in made:
        jobs.stop(20)
        recogniser.batcher.stop(5)


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> Path:
    """Two sentences with a pause."""
    samples, rate = sf.read(EXAMPLE, dtype="float32")
    path = tmp_path_factory.mktemp("audio") / "twice.wav"
    pause = np.zeros(2 * rate, np.float32)
    sf.write(path, np.concatenate([samples, pause, samples]), rate, subtype="PCM_16")
    return path


def folders(outputs: Path) -> list[str]:
    return sorted(entry.name for entry in store.result_folders(outputs))


def content(folder: Path) -> dict:
    return json.loads((folder / store.RESULT_NAME).read_text("utf-8"))


def comparable(report: dict) -> dict:
    """A report without what differs from one recognition to the next."""
    for name in ("timestamp", "timing", "log"):
        assert report.pop(name)
    return json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 4))


def go_on(outputs: Path, job_id: str) -> None:
    """The state of a job that was under way when its server was killed."""
    with closing(sqlite3.connect(outputs / ".jobs" / "jobs.sqlite")) as db, db:
        db.execute(
            "UPDATE jobs SET status = 'IN_PROGRESS', ended_ms = NULL WHERE id = ?", (job_id,)
        )


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_a_result_of_a_job_is_that_of_one_recognition(serve, twice, tmp_path, granularity):
    outputs = tmp_path / "outputs"
    recogniser, jobs = serve(outputs)
    files = {"calls/twice.wav": twice.read_bytes(), "broken.wav": b"no sound"}
    job_id = send(jobs, files, granularity=granularity, embedding=True, save=True, lang="zh")
    jobs.start()
    assert wait(jobs, job_id, COMPLETED).failed == 1
    rows = {row.path: row for row in jobs.store.rows(job_id)}
    assert rows["broken.wav"].folder is None
    assert folders(outputs) == [rows["calls/twice.wav"].folder]
    mine = outputs / rows["calls/twice.wav"].folder
    alone = recogniser.analyse(
        twice, granularity=granularity, extract_embedding=True, lang="zh"
    ).saved.folder
    report = content(mine)
    assert report["confidence"] == pytest.approx(rows["calls/twice.wav"].confidence, abs=1e-9)
    assert comparable(report) == comparable(content(alone))
    if granularity == "frame":
        assert len(report["utterances"]) == 2
    names = {path.name for path in mine.iterdir()}
    assert names == {path.name for path in alone.iterdir()} | {store.ORIGIN_NAME}
    vector = np.load(mine / store.EMBEDDING_NAME)
    assert np.allclose(vector, np.load(alone / store.EMBEDDING_NAME), atol=1e-3)
    assert (mine / store.AUDIO_NAME).read_bytes() == (alone / store.AUDIO_NAME).read_bytes()


def test_history_and_lab_have_a_jobs_results(serve, tmp_path):
    outputs = tmp_path / "outputs"
    _, jobs = serve(outputs)
    clips = {f"{n}.wav": speechlike(1, seed=n) for n in range(5)}
    files = {
        name: write_soundfile(tmp_path / name, clip, 16_000, "WAV", "PCM_16").read_bytes()
        for name, clip in clips.items()
    }
    kept, not_kept = send(jobs, files, save=True), send(jobs, files)
    jobs.start()
    wait(jobs, kept, COMPLETED)
    wait(jobs, not_kept, COMPLETED)
    assert {row.folder for row in jobs.store.rows(not_kept)} == {None}
    of_rows = sorted(row.folder for row in jobs.store.rows(kept))
    history = History(outputs)
    try:
        assert sorted(row.name for row in history.search().rows) == list(clips)
        (space,) = spaces(history)
        assert space.model == "compact"
    finally:
        history.close()
    jobs.remove(kept)
    assert folders(outputs) == of_rows  # they are results like any other


def test_a_result_whose_row_was_not_written_is_not_made_twice(serve, tmp_path):
    """Killed between a result and its row; one more recording has neither."""
    outputs = tmp_path / "outputs"
    _, jobs = serve(outputs)
    job_id = send(jobs, {f"客户/{n}.wav": EXAMPLE.read_bytes() for n in range(4)}, save=True)
    jobs.start()
    wait(jobs, job_id, COMPLETED)
    before = {row.path: row.folder for row in jobs.store.rows(job_id)}
    assert len(set(before.values())) == 4
    jobs.stop(20)
    go_on(outputs, job_id)
    with closing(sqlite3.connect(outputs / ".jobs" / job_id / "journal.sqlite")) as db, db:
        lost = ["客户/1.wav", "客户/2.wav"]
        db.executemany("DELETE FROM done WHERE path = ?", [(os.fsencode(one),) for one in lost])
    shutil.rmtree(outputs / before["客户/2.wav"])
    _, again = serve(outputs)
    again.start()
    wait(again, job_id, COMPLETED)
    after = {row.path: row.folder for row in again.store.rows(job_id)}
    assert {path: after[path] for path in after if path != "客户/2.wav"} == {
        path: before[path] for path in before if path != "客户/2.wav"
    }
    assert folders(outputs) == sorted(after.values()) and len(set(after.values())) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_makes_a_job_wait_and_loses_nothing(serve, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk]).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    jobs = None
    try:
        _, jobs = serve(disk / "outputs")
        content = EXAMPLE.read_bytes()
        job_id = send(jobs, {f"{n:02}.wav": content for n in range(9)}, save=True)
        jobs.start()
        job = wait(jobs, job_id, QUEUED)
        while job.error is None:
            job = wait(jobs, job_id, QUEUED)
        assert "disk is full" in job.error["en"].message and "磁盘已满" in job.error["zh"].message
        rows = list(jobs.store.rows(job_id))
        assert 0 < len(rows) < 9 and {row.status for row in rows} == {"ok"}
        assert folders(disk / "outputs") == sorted(row.folder for row in rows)
        assert not any((disk / "outputs" / store.WRITING_DIR).iterdir())
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        job = wait(jobs, job_id, COMPLETED)
        assert (job.done, job.failed, job.error) == (9, 0, None)
        rows = list(jobs.store.rows(job_id))
        assert folders(disk / "outputs") == sorted(row.folder for row in rows)
        assert len({row.folder for row in rows}) == 9
    finally:
        if jobs is not None:
            jobs.stop(20)
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_job_has_the_sub_classes_of_when_it_was_sent(serve, holder, tmp_path):
    outputs = tmp_path / "outputs"
    _, jobs = serve(outputs)
    loaded = holder.get(60)
    facts = {"dim": loaded.dim, "weights_sha256": loaded.weights_sha256}
    subclasses.save(outputs, past_subclasses.trained(name="calls", **facts))
    files = {"a.wav": EXAMPLE.read_bytes(), "broken.wav": b"no sound"}
    job_id = send(jobs, files, subclass=(("calls", 1),), save=True)
    gone = send(jobs, files, subclass=(("calls", 7),))
    subclasses.save(outputs, past_subclasses.trained(name="calls", classes=("x", "y"), **facts))
    jobs.start()
    job = wait(jobs, job_id, COMPLETED)
    columns = [f"subclass_calls_{one}" for one in ("frustrated", "furious", "none")]
    assert job.subclass_columns == tuple(columns)
    rows = {row.path: row for row in jobs.store.rows(job_id)}
    assert list(rows["a.wav"].subclasses) == columns and rows["broken.wav"].subclasses is None
    told = content(outputs / rows["a.wav"].folder)["subclasses"]["calls"]
    assert list(rows["a.wav"].subclasses.values()) == [*told["scores"].values(), told["none"]]
    table = tmp_path / "results.json"
    jobs.store.write_table(job_id, table, "en", "/below")
    first, second = json.loads(table.read_text("utf-8"))
    assert [list(one)[-5:] for one in (first, second)] == [["folder", "result_url", *columns]] * 2
    folder = rows["a.wav"].folder
    assert first["result_url"] == f"/below/file=outputs/{folder}/result.json"
    assert second["folder"] is None and second["subclass_calls_none"] is None
    # What cannot be had is told, and is not tried for ever.
    failed = wait(jobs, gone, FAILED)
    assert failed.error["en"].code == "job_stopped" and "calls 7" in failed.error["zh"].message


def test_a_list_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "jobs.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, "
            "granularity TEXT NOT NULL, embedding INTEGER NOT NULL, files INTEGER NOT NULL, "
            "bytes INTEGER NOT NULL, created_ms INTEGER NOT NULL, status TEXT NOT NULL, "
            "tried_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, model TEXT, "
            "embedding_dim INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, "
            "audio_s REAL NOT NULL, error TEXT)"
        )
        db.execute(
            "INSERT INTO jobs VALUES ('1', 'me', 'a', 'frame', 1, 2, 3, 4, 'QUEUED', 0, NULL, "
            "NULL, NULL, 0, 0, 0, 0.0, NULL)"
        )
    jobs = JobList(path)
    old = jobs.get("1")
    assert old == Job("1", "me", "a", "frame", True, 2, 3, 4)
    new = Job(
        "2", "me", "b", "utterance", False, 1, 1, 5, save=True, subclass=(("x", 2),), lang="zh"
    )
    jobs.add(new)
    jobs.close()
    jobs = JobList(path)
    assert jobs.find() == [new, old]
    jobs.close()
