"""The index of embeddings agrees with the folders, whatever is added, removed, broken or killed."""

from __future__ import annotations

import io
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotion2vec_ui.errors import NoEmbeddings, NoEmbeddingsOfModel, ResultNotFound
from emotion2vec_ui.lab.index import space, spaces
from emotion2vec_ui.records import exports, store
from emotion2vec_ui.records.index import INDEX_NAME, History
from emotion2vec_ui.records.vectors import FILE_PREFIX
from tests import past
from tests.conftest import ROOT

DIM = 8
LARGE = "iic/emotion2vec_plus_large"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    one = History(tmp_path / "outputs")
    yield one
    one.close()


def vector(seed: int, dim: int = DIM) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def moment(seed: int) -> str:
    """A time stamp of its own: a name that was freed is not given to another result."""
    return str(datetime(2026, 1, 1) + timedelta(seconds=seed))


def indexed(history: History, model: str | None = None) -> dict[str, list[float]]:
    try:
        found = space(history, model)
    except NoEmbeddings:
        return {}
    return {row.folder: one.tolist() for row, one in zip(found.rows, found.vectors, strict=True)}


def on_disk(outputs: Path) -> dict[str, list[float]]:
    """The embeddings as the folders have them, read by numpy alone."""
    return {
        path.parent.name: np.load(path).astype(np.float16).tolist()
        for path in outputs.glob("outputs_*/*embedding.npy")
    } | {
        path.parent.name: np.load(path).astype(np.float16).tolist()
        for path in outputs.glob("outputs_*/.embedding.npy")
    }


def files(outputs: Path) -> list[Path]:
    return sorted(outputs.glob(f"{FILE_PREFIX}*"))


# --- in step --------------------------------------------------------------------------------------


def test_the_index_holds_each_embedding_as_the_model_gave_it(history):
    kept = past.save(history.outputs, kept=vector(1))
    asked_for = past.save(history.outputs, vector(2), kept=vector(2))
    past.save(history.outputs)
    found = space(history)
    assert (found.model, found.weights_sha256) == ("compact", "0" * 64)
    assert {row.folder for row in found.rows} == {kept, asked_for}
    assert indexed(history) == {
        kept: vector(1).astype(np.float16).tolist(),
        asked_for: vector(2).astype(np.float16).tolist(),
    }
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0] = 0


def test_of_frames_the_mean_is_the_embedding_of_the_utterance(history):
    rows = np.stack([vector(1), vector(2)])
    with_both = past.save(history.outputs, rows, kept=vector(3), frames=past.frames())
    frames_alone = past.save(history.outputs, rows, frames=past.frames())
    assert indexed(history) == {
        with_both: vector(3).astype(np.float16).tolist(),
        frames_alone: rows.mean(axis=0).astype(np.float16).tolist(),
    }


def test_the_kept_embedding_is_no_part_of_the_result(history):
    folder = history.outputs / past.save(history.outputs, kept=vector(1))
    assert (folder / ".embedding.npy").stat().st_size < 200
    names = {"result.json", "processed_audio.wav"}
    assert {name for name, _ in store.files_in(folder)} == names
    archive = io.BytesIO()
    exports.write_zip(folder, archive)
    assert {Path(name).name for name in zipfile.ZipFile(archive).namelist()} == names
    assert not history.search().rows[0].has_embedding
    # Where embedding.npy has it, it is not there twice.
    folder = history.outputs / past.save(history.outputs, vector(1), kept=vector(1))
    assert not (folder / ".embedding.npy").exists()


def test_models_have_spaces_of_their_own(history):
    first = past.save(history.outputs, kept=vector(1))
    second = past.save(history.outputs, kept=vector(2), weights_sha256="1" * 64)
    third = past.save(history.outputs, kept=vector(3), model=LARGE)
    fourth = past.save(
        history.outputs, kept=vector(4), model=LARGE, timestamp="2026-01-05 00:00:00"
    )
    found = [(one.model, one.weights_sha256, one.dim, one.count) for one in spaces(history)]
    assert found[0] == (LARGE, "0" * 64, DIM, 2)
    assert set(found[1:]) == {("compact", "0" * 64, DIM, 1), ("compact", "1" * 64, DIM, 1)}
    assert spaces(history)[0].newest == "2026-01-05 00:00:00"
    assert indexed(history).keys() == indexed(history, LARGE).keys() == {third, fourth}
    assert indexed(history, "compact").keys() in ({first}, {second})


def test_no_embeddings_and_none_of_a_model_are_errors_that_say_so(history):
    with pytest.raises(NoEmbeddings) as caught:
        space(history)
    assert type(caught.value) is NoEmbeddings
    past.save(history.outputs, kept=vector(1))
    with pytest.raises(NoEmbeddingsOfModel) as other:
        space(history, LARGE)
    assert LARGE in str(other.value) and "compact" in str(other.value)
    history.delete(list(indexed(history)))
    with pytest.raises(NoEmbeddings):
        space(history, "compact")


def test_what_no_cosine_can_be_told_of_is_left_out(history):
    for bad in (np.nan, np.inf, 1e6, 0.0):
        past.save(history.outputs, kept=np.full(DIM, bad, np.float32))
    past.save(history.outputs, np.array([], np.float32))
    damaged = past.save(history.outputs, kept=vector(1))
    (history.outputs / damaged / ".embedding.npy").write_bytes(b"\x93NUMPY cut")
    past.save_old(history.outputs)
    good = past.save(history.outputs, kept=vector(2))
    assert indexed(history).keys() == {good} and history.search().total == 8


def test_an_embedding_can_be_added_later(history):
    folder = past.save(history.outputs)
    assert indexed(history) == {}
    before = (history.outputs / folder).stat().st_mtime
    history.add_embedding(folder, vector(1))
    assert indexed(history) == {folder: vector(1).astype(np.float16).tolist()}
    # By its time, old results are removed: it stays as old as it is.
    assert (history.outputs / folder).stat().st_mtime == pytest.approx(before, abs=1e-3)
    with pytest.raises(ResultNotFound):
        history.add_embedding("outputs_20200101_000000", vector(1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(["add", "without", "remove", "change", "look"]), max_size=20))
def test_kept_in_step_equals_the_folders(tmp_path_factory, steps):
    history = History(tmp_path_factory.mktemp("outputs"))
    there: list[str] = []
    for seed, step in enumerate(steps):
        if step == "add":
            there.append(past.save(history.outputs, kept=vector(seed)))
        elif step == "without":
            past.save(history.outputs)
        elif step == "remove" and there:
            store.discard(history.outputs / there.pop(seed % len(there)))
            history.refresh()  # every result here has the same second, so the name is used again
        elif step == "change" and there:
            store.add_embedding(history.outputs / there[seed % len(there)], vector(seed))
            history.refresh()
        else:
            assert indexed(history) == on_disk(history.outputs)
    assert indexed(history) == on_disk(history.outputs)
    assert len(files(history.outputs)) <= 1
    history.close()


def test_a_result_that_comes_while_one_reads_is_not_in_what_is_read(history):
    first, second = (
        past.save(history.outputs, kept=vector(i), timestamp=moment(i)) for i in (1, 2)
    )
    assert indexed(history).keys() == {first, second}
    history.delete([first])
    before = history.snapshot("compact", "0" * 64, DIM)
    assert before is not None and len(before.free) == 1
    for seed in (3, 4):  # one takes the freed row, one stands behind the end
        past.save(history.outputs, kept=vector(seed), timestamp=moment(seed))
    rows = history.rows_at(before)
    assert rows is not None and [row.folder for row in rows] == [second]


def test_freed_rows_are_used_again_and_the_file_is_not_rewritten(history):
    folders = [past.save(history.outputs, kept=vector(i)) for i in range(4)]
    space(history)
    (file,) = files(history.outputs)
    inode = file.stat().st_ino
    before = np.fromfile(file, "<f2").reshape(-1, DIM)
    history.delete(folders[1:3])
    space(history)
    new = [past.save(history.outputs, kept=vector(10 + i)) for i in range(2)]
    assert indexed(history).keys() == {folders[0], folders[3], *new}
    after = np.fromfile(file, "<f2").reshape(-1, DIM)
    assert files(history.outputs) == [file] and file.stat().st_ino == inode
    kept = [i for i in range(4) if before[i].tolist() == after[i].tolist()]
    assert len(kept) == 2 and not after[4:].any()


def test_a_row_is_not_taken_for_the_result_that_comes_after(history):
    old = past.save(history.outputs, kept=vector(1))
    snapshot = history.snapshot("compact", "0" * 64, DIM)
    assert snapshot is not None
    assert [row.folder for row in history.rows_at(snapshot, [0]) or []] == [old]
    history.delete([old])
    history.search()
    past.save(history.outputs, kept=vector(2))
    history.search()
    assert history.rows_at(snapshot, [0]) is None


# --- broken ---------------------------------------------------------------------------------------


def test_a_broken_index_is_built_anew(tmp_path, subtests):
    for damage in ("no index", "no vectors", "cut vectors", "no table", "other version", "strange"):
        with subtests.test(damage=damage):
            outputs = tmp_path / damage
            for seed in range(3):
                past.save(outputs, kept=vector(seed))
            first = History(outputs)
            assert len(indexed(first)) == 3
            first.close()
            (file,) = files(outputs)
            with sqlite3.connect(outputs / INDEX_NAME) as db:
                if damage == "no table":
                    db.execute("DROP TABLE spaces")
                if damage == "other version":
                    db.execute("PRAGMA user_version = 3")
            db.close()
            if damage == "no index":
                (outputs / INDEX_NAME).unlink()
            if damage == "no vectors":
                file.unlink()
            if damage == "cut vectors":
                os.truncate(file, DIM * 2)
            if damage == "strange":
                (outputs / f"{FILE_PREFIX}0").write_bytes(b"of a process that was killed")
            again = History(outputs)
            assert indexed(again) == on_disk(outputs) and len(files(outputs)) == 1
            again.close()


def test_vectors_removed_while_the_index_is_open_come_back(history):
    past.save(history.outputs, kept=vector(1))
    history.search()
    (file,) = files(history.outputs)
    file.unlink()
    past.save(history.outputs, kept=vector(2))
    assert indexed(history) == on_disk(history.outputs) and len(indexed(history)) == 2


def test_where_no_index_can_be_written_embeddings_can_be_compared(history):
    past.save(history.outputs, kept=vector(1))
    # Root may write anywhere, so the refusal is made: a folder where the index should be.
    (history.outputs / INDEX_NAME).mkdir()
    assert indexed(history) == on_disk(history.outputs) and files(history.outputs) == []


def test_without_the_setting_nothing_is_kept(history):
    folder = past.save(history.outputs, vector(1), kept=vector(1))
    assert indexed(history).keys() == {folder}
    history.close()
    without = History(history.outputs, embeddings=False)
    assert without.search().total == 1 and indexed(without) == {}
    assert files(history.outputs) == []
    without.close()
    assert indexed(history).keys() == {folder}


KILL_WRITERS = """
import os, random, signal, sys, time
from pathlib import Path
from emotion2vec_ui.records.index import History
from tests.lab.test_index import indexed, moment, on_disk, vector
from tests import past
outputs = Path(sys.argv[1])
random.seed(0)
warm = History(outputs / "warm")
for seed in range(3):  # the first imports and builds what is needed
    start = time.perf_counter()
    past.save(outputs / "warm", kept=vector(seed), timestamp=moment(seed))
    warm.search()
    turn_s = time.perf_counter() - start
warm.close()
for round_ in range(60):
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        history = History(outputs)
        history.search()
        os.write(begins, b"!")
        seed = 1000 * round_
        while True:
            seed += 1
            past.save(outputs, kept=vector(seed), timestamp=moment(seed))
            there = history.search().rows
            if len(there) > 6:
                history.delete([random.choice(there).folder for _ in range(3)])
    os.read(begun, 1)
    # Up to several times what one turn takes here, so every step of it is hit.
    time.sleep(random.uniform(0, 3 * turn_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    history = History(outputs)
    assert indexed(history) == on_disk(outputs), round_
    history.close()
    os.close(begun), os.close(begins)
print(len(on_disk(outputs)))
"""


def test_killed_at_any_moment_the_next_start_agrees_with_the_disk(tmp_path):
    # From a process of its own: forking one with pytest's threads would not be safe.
    command = [sys.executable, "-c", KILL_WRITERS, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(run.stdout) > 3  # of seven, at most three are removed
    history = History(tmp_path)
    assert indexed(history) == on_disk(tmp_path)
    history.close()


def _come_and_go(outputs: Path, first_seed: int) -> None:
    history = History(outputs)
    for seed in range(first_seed, first_seed + 15):
        folder = past.save(outputs, kept=vector(seed), timestamp=moment(seed))
        own = indexed(history)[folder]
        assert own == vector(seed).astype(np.float16).tolist()
        if seed % 3 == 0:
            history.delete([folder])
    history.close()


def test_processes_share_one_index(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_come_and_go, args=(tmp_path, 100 * i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    history = History(tmp_path)
    assert indexed(history) == on_disk(tmp_path) and len(indexed(history)) == 30
    history.close()
