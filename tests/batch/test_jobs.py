"""Jobs done by the real model: in whose turn, interrupted, cancelled, removed, and not twice."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.audio.load import load
from emotion2vec_ui.batch.job_list import (
    CANCELLED,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    QUEUED,
    Job,
    JobList,
    Wanted,
    now_ms,
)
from emotion2vec_ui.batch.jobs import Jobs
from emotion2vec_ui.errors import JobsElsewhere, ResultNotFound
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Ended, Recogniser
from emotion2vec_ui.settings import Settings
from tests.past import EXAMPLE

WAIT_S = 90


class Told:
    """Keeps what an observer is told."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def batch_done(self, windows: int, padded_s: float, taken_s: float) -> None: ...

    def request_ended(self, ended: Ended) -> None:
        self.ended.append(ended)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Iterator[Recogniser]:
    settings = Settings(model="compact", device="cpu", outputs=tmp_path_factory.mktemp("outputs"))
    holder = ModelHolder(settings)
    holder.start()
    made = Recogniser(settings, holder, lambda path, name: load(path, name=name))
    yield made
    made.stop(10)


@pytest.fixture
def make(recogniser, tmp_path) -> Iterator[Callable[..., Jobs]]:
    """Makes jobs of one outputs folder, as one server after another would, and stops them."""
    made: list[Jobs] = []

    def jobs(observer: Told | None = None, folder: Path = tmp_path) -> Jobs:
        settings = Settings(model="compact", device="cpu", outputs=folder / "outputs")
        made.append(Jobs(settings, recogniser, observer))
        return made[-1]

    yield jobs
    for one in made:
        one.stop(20)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    return write_soundfile(path, speechlike(1), 16_000, "WAV", "PCM_16").read_bytes()


def send(jobs: Jobs, files: dict[str, bytes], owner: str = "me", **asked) -> str:
    incoming = jobs.store.begin(jobs.bounds)
    try:
        for name, content in files.items():
            incoming.begin(name)
            incoming.write(content)
            incoming.end()
        incoming.finish()
        return jobs.add(incoming, Wanted(**asked), owner=owner).id
    finally:
        jobs.store.drop(incoming)


def wait(jobs: Jobs, job_id: str, *statuses: str) -> Job:
    deadline = time.monotonic() + WAIT_S
    while (job := jobs.get(job_id).job).status not in statuses:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def test_a_job_has_a_row_of_every_file_and_the_observer_is_told(make, clip):
    told = Told()
    jobs = make(told)
    jobs.start()
    files = {"calls/a.wav": clip, "b.wav": EXAMPLE.read_bytes(), "broken.wav": b"no sound"}
    job_id = send(jobs, files, granularity="frame", embedding=True)
    job = wait(jobs, job_id, COMPLETED)
    assert (job.files, job.done, job.failed, job.model) == (3, 3, 1, "compact")
    assert job.audio_s == pytest.approx(1 + 5.18, abs=0.1)
    rows = {row.path: row for row in jobs.store.rows(job_id)}
    assert {path: row.status for path, row in rows.items()} == {
        "calls/a.wav": "ok", "b.wav": "ok", "broken.wav": "cannot_decode",
    }  # fmt: skip
    assert rows["b.wav"].segments and rows["b.wav"].embedding.shape == (job.embedding_dim,)
    assert sorted(one.front for one in told.ended) == ["job"] * 3
    assert sorted(getattr(one.error, "code", "") for one in told.ended) == ["", "", "cannot_decode"]
    assert jobs.store.file(job_id, "calls/a.wav").read_bytes() == clip


def test_an_interrupted_job_goes_on_without_doing_anything_twice(make, clip):
    first, second = Told(), Told()
    jobs = make(first)
    jobs.start()
    job_id = send(jobs, {f"{n:03}.wav": clip for n in range(120)})
    deadline = time.monotonic() + WAIT_S
    while len(first.ended) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    jobs.stop(20)
    done = len(first.ended)
    assert done < 120
    after = make(second)
    found = after.get(job_id).job
    assert (found.status, found.done) == (IN_PROGRESS, done)
    after.start()
    job = wait(after, job_id, COMPLETED)
    assert (job.done, job.failed, done + len(second.ended)) == (120, 0, 120)
    assert len({row.path for row in after.store.rows(job_id)}) == 120


def test_a_cancelled_job_keeps_its_rows_and_a_removed_one_nothing(make, clip, tmp_path):
    jobs = make()
    jobs.start()
    many = {f"{n:03}.wav": clip for n in range(150)}
    first, second, third = send(jobs, many), send(jobs, many), send(jobs, {"a.wav": clip})
    wait(jobs, first, IN_PROGRESS)
    assert jobs.cancel(second).job.status == CANCELLED  # it waited
    assert jobs.cancel(first).job.status == CANCELLED  # it was being done
    assert wait(jobs, third, COMPLETED).done == 1
    rows = list(jobs.store.rows(first))
    assert len(rows) == jobs.get(first).job.done < 150
    assert jobs.cancel(third).job.status == COMPLETED  # it has ended
    for job_id in (first, second, third):
        jobs.remove(job_id)
        with pytest.raises(ResultNotFound):
            jobs.get(job_id)
        assert not (tmp_path / "outputs" / ".jobs" / job_id).exists()
    assert jobs.find() == []


def test_a_job_removed_while_it_runs_is_gone(make, clip, tmp_path):
    jobs = make()
    jobs.start()
    job_id = send(jobs, {f"{n:03}.wav": clip for n in range(150)})
    wait(jobs, job_id, IN_PROGRESS)
    jobs.remove(job_id)
    assert jobs.find() == [] and not (tmp_path / "outputs" / ".jobs" / job_id).exists()
    assert wait(jobs, send(jobs, {"a.wav": clip}), COMPLETED).done == 1


def test_owners_take_turns(make, clip):
    """The second owner's job comes before the rest of the first one's."""
    jobs = make()
    mine = [send(jobs, {"a.wav": clip}, "me") for _ in range(3)]
    other = send(jobs, {"a.wav": clip}, "you")
    jobs.start()
    ended = [wait(jobs, job_id, COMPLETED) for job_id in (*mine, other)]
    order = sorted(ended, key=lambda job: job.started_ms)
    assert [job.id for job in order] == [mine[0], other, mine[1], mine[2]]
    # No key and no address is kept.
    assert all(len(job.owner) == 16 and job.owner not in ("me", "you") for job in ended)


def test_a_job_of_another_model_fails_with_its_rows(make, clip):
    jobs = make()
    job_id = send(jobs, {"a.wav": clip})
    with jobs.store.journal(job_id) as journal:
        from emotion2vec_ui.batch.journal import SCHEMA, Terms
        from emotion2vec_ui.batch.manifest import Found
        from emotion2vec_ui.records.rows import Row

        journal.agree(Terms(SCHEMA, job_id, "other/model", "-", "fp32", "-", "utterance", 0))
        journal.add(Found("z.wav", 1, 1), Row(path="z.wav", sha256=None, status="ok", model="x"))
    jobs.start()
    job = wait(jobs, job_id, FAILED)
    assert "another model" in job.error["en"].message and "模型" in job.error["zh"].message
    assert [row.path for row in jobs.store.rows(job_id)] == ["z.wav"]


def test_two_servers_do_not_do_the_same_jobs(make, clip):
    jobs, other = make(), make()
    job_id = send(jobs, {"a.wav": clip})
    with pytest.raises(JobsElsewhere):
        other.get(job_id)
    other.start()  # it waits, and its server goes on
    jobs.start()
    assert wait(jobs, job_id, COMPLETED).done == 1


def test_what_a_killed_server_left_is_removed(make, clip, tmp_path):
    jobs = make()
    job_id = send(jobs, {"a.wav": clip})
    folder = tmp_path / "outputs" / ".jobs"
    half = jobs.store.begin(jobs.bounds)  # killed while it came
    half.begin("half.wav")
    half.end()
    shutil.copytree(folder / job_id, folder / "no-entry")  # killed before its entry was made
    jobs.stop(5)
    after = make()
    assert [one.job.id for one in after.find()] == [job_id]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [job_id]


def test_what_is_not_made_a_job_leaves_nothing(make, tmp_path):
    jobs = make()
    assert jobs.find() == [] and not (tmp_path / "outputs").exists()
    incoming = jobs.store.begin(jobs.bounds)
    incoming.begin("a.wav")
    incoming.write(b"x" * 100)
    jobs.store.drop(incoming)
    assert not any((tmp_path / "outputs" / ".jobs" / ".writing").iterdir())


def test_old_jobs_are_removed_and_unended_ones_kept(make, clip, tmp_path):
    jobs = make()
    old, new, waiting = (send(jobs, {"a.wav": clip}) for _ in range(3))
    jobs.cancel(old)
    jobs.cancel(new)
    jobs.stop(5)
    # Ended two days ago, by another hand on the same file.
    import sqlite3

    with sqlite3.connect(tmp_path / "outputs" / ".jobs" / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET ended_ms = ended_ms - 172800000 WHERE id = ?", (old,))
    db.close()
    after = make()
    assert after.remove_old(1.0) == 1
    assert {one.job.id for one in after.find()} == {new, waiting}


def test_nothing_outside_a_jobs_files_is_served(make, clip):
    jobs = make()
    job_id = send(jobs, {"a.wav": clip})
    for name in ("../journal.sqlite", "/etc/passwd", "", ".", "a.wav/..", "b.wav", "a\0.wav"):
        with pytest.raises(ResultNotFound):
            jobs.store.file(job_id, name)
    for other in ("", "..", "../.jobs", job_id.upper()):
        with pytest.raises(ResultNotFound):
            jobs.store.file(other, "a.wav")


def job(number: int, owner: str = "me") -> Job:
    return Job(str(number), owner, "a", "utterance", False, 1, 1, now_ms())


def test_the_list_survives_and_says_whose_turn_it_is(tmp_path):
    jobs = JobList(tmp_path / "jobs.sqlite")
    for number, owner in enumerate(["a", "a", "b"]):
        jobs.add(job(number, owner))
    jobs.begin("0")
    jobs.close()
    jobs = JobList(tmp_path / "jobs.sqlite")
    assert jobs.next().id == "0"  # interrupted
    jobs.end("0", COMPLETED)
    jobs.end("0", FAILED)  # an end is an end
    assert jobs.get("0").status == COMPLETED and jobs.next().id == "2"
    jobs.put_off("2", JobsElsewhere(retry_after_s=1))
    assert jobs.get("2").error["en"].code == "jobs_elsewhere"
    assert [one.id for one in jobs.find((QUEUED,))] == ["2", "1"]
    assert replace(jobs.get("1"), created_ms=0) == replace(job(1, "a"), created_ms=0)
    jobs.close()


def test_many_threads_read_the_rows_of_one_running_job(make, clip):
    jobs = make()
    jobs.start()
    job_id = send(jobs, {f"{n:03}.wav": clip for n in range(60)})
    failures: list[Exception] = []

    def look() -> None:
        try:
            while jobs.get(job_id).job.status in (QUEUED, IN_PROGRESS):
                assert len(list(jobs.store.rows(job_id))) <= 60
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failures == [] and len(list(jobs.store.rows(job_id))) == 60
