"""`batch --engine ray` on real clusters: a lost machine, Ctrl-C, addresses, other weights."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import pickle
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.batch.ray_worker import Order, Worker, probe, unpacked
from emotion2vec_ui.errors import ClusterError, SubclassOfOtherModel
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.settings import Settings
from tests import past_subclasses
from tests.batch.conftest import NAMES, command, environment
from tests.batch.test_resume import kept, rows

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install -r requirements-ray.txt",
)

SCORES_WITHIN = 1e-5
"""Who shares a batch moves the sixth digit."""

FIGURES = ("score_", "subclass_", "confidence", "familiarity")
"""Columns of them, by their beginnings."""


def many(folder: Path, count: int) -> Path:
    """Recordings of 4 s, and one that is none."""
    folder.mkdir()
    kinds = [folder.parent / f"kind{seed}.wav" for seed in range(10)]
    for seed, kind in enumerate(kinds):
        write_soundfile(kind, speechlike(4, seed=seed), 16_000, "WAV", "PCM_16")
    for number in range(count - 1):
        os.link(kinds[number % 10], folder / f"{number:03}.wav")
    (folder / "broken.wav").write_text("no sound")
    return folder


def assert_equal(found: dict[str, dict[str, str]], wanted: dict[str, dict[str, str]]) -> None:
    assert found.keys() == wanted.keys()
    for path, row in wanted.items():
        for column, cell in row.items():
            if column.startswith(FIGURES):
                near = pytest.approx(float(cell or 0), abs=SCORES_WITHIN)
                assert float(found[path][column] or 0) == near
            else:
                assert found[path][column] == cell, (path, column)


# --- without a cluster ----------------------------------------------------------------------------


def test_without_the_package_it_says_what_to_install(batch, recordings, tmp_path):
    hiding = tmp_path / "hiding" / "ray"
    hiding.mkdir(parents=True)
    (hiding / "__init__.py").write_text("raise ImportError('not here')")
    paths = os.pathsep.join([str(hiding.parent), environment()["PYTHONPATH"]])
    out = tmp_path / "results.csv"
    done = batch(recordings, "--out", out, "--engine", "ray", PYTHONPATH=paths)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install -r requirements-ray.txt" in done.stderr
    assert not list(tmp_path.glob("results*"))


@pytest.mark.parametrize(
    "flags", [["--address", "auto"], ["--workers", "2"], ["--engine", "ray", "--workers", "0"]]
)
def test_flags_that_mean_nothing_are_wrong_usage(batch, recordings, tmp_path, flags):
    done = batch(recordings, "--out", tmp_path / "results.csv", *flags)
    assert done.returncode == 2 and "--workers" in done.stderr


def test_an_address_without_ray_is_wrong_usage(batch, tmp_path):
    done = batch("s3://bucket/calls", "--out", tmp_path / "results.csv")
    assert done.returncode == 2 and "--engine ray" in done.stderr


def test_a_worker_with_other_weights_ends_the_run_and_says_which(tmp_path):
    order = Order(Settings(model="compact", device="cpu"), str(tmp_path), "utterance", False)
    found = probe(order)
    assert not isinstance(found, Exception)
    agreed, model = found
    assert model.id == agreed.model == "compact"
    other = Worker(order, replace(agreed, weights_sha256="0" * 64))
    (error,) = unpacked(other({"pickled": []}))
    assert isinstance(error, ClusterError)
    assert "another model with the same name" in str(error) and "000000000000" in str(error)


def test_a_machine_without_the_model_says_so(tmp_path):
    settings = Settings(model=str(tmp_path / "absent"), device="cpu", offline=True)
    found = probe(Order(settings, str(tmp_path), "utterance", False))
    assert isinstance(found, Exception) and "absent" in str(found)


def test_sub_classes_of_another_model_are_refused_by_the_machine_that_has_it(tmp_path):
    foreign = past_subclasses.trained(name="foreign", model="other")
    settings = Settings(model="compact", device="cpu")
    found = probe(Order(settings, str(tmp_path), "utterance", False, (foreign,)))
    assert isinstance(pickle.loads(pickle.dumps(found)), SubclassOfOtherModel)


# --- with one -------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[str, object, object]]:
    """Address, cluster and second machine; each has two cores to give away."""
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 2, "object_store_memory": 200_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    try:
        yield cluster.address, cluster, cluster.add_node(**size)
    finally:
        cluster.shutdown()


def models_on(node) -> list[str]:
    """The model actors among the processes of one machine of the cluster."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    names = []
    for child in raylet.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            names.append(" ".join(child.cmdline()))
    return [name for name in names if "Worker" in name and name.startswith("ray::")]


@needs_ray
@pytest.mark.slow
def test_a_machine_lost_in_the_middle_costs_no_file_and_doubles_none(batch, tmp_path):
    folder = many(tmp_path / "calls", 300)
    out, journal = tmp_path / "results.csv", tmp_path / "results.csv.journal"
    with two_machines() as (address, cluster, second):
        process = subprocess.Popen(
            command(folder, "--out", out, "--json", "--engine", "ray", "--address", address),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        kept(journal, 40, process)
        assert models_on(second), "it had its part in the work"
        cluster.remove_node(second, allow_graceful=False)
        printed, told = process.communicate(timeout=150)
    assert process.returncode == 1, told  # for the broken one
    assert "Traceback" not in told
    done = json.loads(printed)
    assert (done["files"], done["ok"], done["recognised"]) == (300, 299, 300)
    found = rows(out)
    assert len(found) == 300
    local = tmp_path / "local.csv"
    assert batch(folder, "--out", local).returncode == 1
    assert_equal(found, rows(local))


@needs_ray
@pytest.mark.slow
def test_after_ctrl_c_either_engine_goes_on(batch, tmp_path):
    folder = many(tmp_path / "calls", 300)
    out, journal = tmp_path / "results.csv", tmp_path / "results.csv.journal"
    process = subprocess.Popen(
        command(folder, "--out", out, "--engine", "ray"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kept(journal, 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert "The same command goes on from there" in told and not out.exists()
    done = batch(folder, "--out", out, "--json")
    skipped = json.loads(done.stdout)["skipped"]
    assert 3 <= skipped < 300 and len(rows(out)) == 300
    done = batch(folder, "--out", out, "--json", "--engine", "ray")
    assert json.loads(done.stdout)["recognised"] == 0, done.stderr


@needs_ray
@pytest.mark.slow
def test_an_address_gives_the_rows_of_the_folder(batch, recordings, tmp_path):
    out, local = tmp_path / "remote.csv", tmp_path / "local.csv"
    outputs = tmp_path / "outputs"
    found = probe(Order(Settings(model="compact", device="cpu"), "", "utterance", False))
    assert not isinstance(found, Exception)
    weights_sha256 = found[0].weights_sha256
    made = past_subclasses.trained(name="calls", dim=512, weights_sha256=weights_sha256)
    subclasses.save(outputs, made)
    flags = ["--granularity", "frame", "--subclass", "calls", "--outputs", outputs]
    done = batch(recordings.as_uri(), "--out", out, "--engine", "ray", *flags)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    batch(recordings, "--out", local, *flags)
    found = rows(out)
    assert {path: row["status"] for path, row in found.items()} == NAMES
    for row in (wanted := rows(local)).values():
        if row["segments"]:
            near = json.loads(found[row["path"]]["segments"])
            for mine, other in zip(near, json.loads(row.pop("segments")), strict=True):
                assert mine == pytest.approx(other, abs=SCORES_WITHIN)
    assert_equal(found, wanted)
    assert found["one.wav"]["subclass_calls_none"]
    assert "file://" in (tmp_path / "remote.csv.html").read_text("utf-8")
    with out.open(encoding="utf-8", newline="") as file:
        before = list(csv.DictReader(file))
    # Nothing of the final rows is done again.
    done = batch(recordings.as_uri(), "--out", out, "--json", "--engine", "ray", *flags)
    assert json.loads(done.stdout)["recognised"] == 0, done.stderr
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == before


@needs_ray
@pytest.mark.slow
def test_no_such_place(batch, tmp_path):
    out = tmp_path / "results.csv"
    absent = batch((tmp_path / "absent").as_uri(), "--out", out, "--engine", "ray")
    assert absent.returncode == 1 and "there is no such file or folder" in absent.stderr
    other = batch("nonsense://calls", "--out", out, "--engine", "ray")
    assert other.returncode == 1 and "Traceback" not in other.stderr
    assert not out.exists()
