"""Slim weights: written once, used again, rebuilt when they do not fit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import random_model
from emotion2vec_ui.errors import (
    ModelFilesError,
)
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models import files, loader, slim_file
from emotion2vec_ui.models.files import SLIM_NAME
from emotion2vec_ui.models.weights import STALE_TEMPORARY_S
from emotion2vec_ui.settings import Settings
from tests.models.conftest import load, load_pytorch, scores, wave

pytestmark = pytest.mark.usefixtures("private_home")


def test_slim_weights_are_a_safetensors_file(model_dir: Path) -> None:
    from safetensors import safe_open

    loaded = load_pytorch(model_dir)
    with safe_open(model_dir / SLIM_NAME, framework="pt") as file:
        metadata = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = loaded.network.backbone.module.state_dict()
    assert set(stored) == set(state)
    assert all(torch.equal(stored[name], state[name]) for name in stored)
    assert not any("decoder" in name for name in stored)
    assert metadata["sha256"] == loaded.weights_sha256
    # A third of the checkpoint, and the checkpoint holds a decoder besides.
    slim_bytes = (model_dir / SLIM_NAME).stat().st_size
    assert slim_bytes < (model_dir / "model.pt").stat().st_size / 3


def test_second_load_does_not_open_the_checkpoint(model_dir: Path) -> None:
    first = load(model_dir)
    # Same name, size and time, other content: it would not load.
    stat = (model_dir / "model.pt").stat()
    (model_dir / "model.pt").write_bytes(b"x" * stat.st_size)
    os.utime(model_dir / "model.pt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = load(model_dir)
    assert second.weights_sha256 == first.weights_sha256
    assert np.array_equal(scores(second, wave()), scores(first, wave()))


def test_slim_weights_take_the_precision_on_any_device(model_dir: Path) -> None:
    # "meta" is, like a GPU and unlike a CPU, a device whose tensors are not read in place.
    state = load_pytorch(model_dir).network.backbone.module.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found = slim_file.read(model_dir / SLIM_NAME, None, shapes, "meta", torch.bfloat16)
    assert found is not None
    tensors, _ = found
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}


def test_replaced_checkpoint_rebuilds_slim_weights(model_dir: Path, tmp_path: Path) -> None:
    before = load(model_dir)
    other = random_model.build_model_dir(tmp_path / "other", seed=1)
    os.replace(other / "model.pt", model_dir / "model.pt")
    after = load(model_dir)
    assert after.weights_sha256 != before.weights_sha256
    assert not np.array_equal(scores(after, wave()), scores(before, wave()))
    assert load(model_dir).weights_sha256 == after.weights_sha256


def test_damaged_slim_weights_are_rebuilt(model_dir: Path, subtests: pytest.Subtests) -> None:
    expected = scores(load(model_dir), wave())
    slim = model_dir / SLIM_NAME
    content = slim.read_bytes()
    for damage in ["cut", "garbage", "nan", "other shape"]:
        with subtests.test(damage=damage):
            if damage == "cut":
                slim.write_bytes(content[:-1000])
            elif damage == "garbage":
                slim.write_bytes(b"\xff" * len(content))
            elif damage == "nan":
                slim.write_bytes(content[:-4] + np.float32(np.nan).tobytes())
            else:
                slim.write_bytes(content.replace(b'"shape": [9]', b'"shape": [8]'))
            assert np.array_equal(scores(load(model_dir), wave()), expected)
            assert slim.read_bytes() == content


def test_slim_weights_alone_are_enough(model_dir: Path) -> None:
    first = load(model_dir)
    (model_dir / "model.pt").unlink()
    second = load(model_dir)
    assert second.weights_sha256 == first.weights_sha256
    os.truncate(model_dir / SLIM_NAME, 5000)
    with pytest.raises(ModelFilesError, match="slim weights are damaged"):
        load(model_dir)


def _load_in_process(directory: str, models: str, start: Any, answers: Any) -> None:
    Settings.models_dir = property(lambda self: Path(models))  # type: ignore[assignment]
    start.wait()
    answers.put(load(Path(directory)).weights_sha256)


def test_two_processes_slim_at_once(model_dir: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(2), spawn.Queue()
    arguments = (str(model_dir), str(tmp_path / "models"), start, answers)
    processes = [spawn.Process(target=_load_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [sha256_of(model_dir / "model.pt")] * 2
    assert not list(model_dir.glob(f".{SLIM_NAME}*"))
    assert load(model_dir).weights_sha256 == found[0]


@contextlib.contextmanager
def unwritable(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> Iterator[None]:
    """Folders in which no file can be made. Root may write everywhere, so permissions do not do."""
    import tempfile

    real = tempfile.mkstemp

    def refuse(*args: Any, dir: Any = None, **kwargs: Any) -> Any:
        if Path(dir) in folders:
            raise PermissionError(13, "Permission denied")
        return real(*args, dir=dir, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse)
        yield


def test_slim_weights_where_the_folder_is_read_only(
    model_dir: Path, tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(load(model_dir), wave())
    (model_dir / SLIM_NAME).unlink()
    with unwritable(monkeypatch, model_dir):
        assert np.array_equal(scores(load(model_dir), wave()), expected)
        (in_models,) = (tmp_path / "models").glob(f".slim-*/{SLIM_NAME}")
        written = in_models.stat().st_mtime_ns
        load(model_dir)
        assert in_models.stat().st_mtime_ns == written, "it was not used again"
    in_models.unlink()
    with unwritable(monkeypatch, model_dir, in_models.parent):
        load(model_dir)
        (in_cache,) = (private_home / ".cache/emotion2vec-ui").glob(f"*/{SLIM_NAME}")
    in_cache.unlink()
    with unwritable(monkeypatch, model_dir, in_models.parent, in_cache.parent):
        loaded = load(model_dir)
    # Without the slim file PyTorch reads the checkpoint itself.
    assert loaded.network.runtime == "pytorch"
    np.testing.assert_allclose(scores(loaded, wave()), expected, atol=1e-5)
    assert loaded.weights_sha256 == sha256_of(model_dir / "model.pt")


def test_no_hub_cache_means_none_for_slim_weights_either(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(model_dir), device="cpu", no_hf_weights_cache=True)
    loader.load(files.Location(model_dir, "tiny", "cache"), settings)
    assert not (model_dir / SLIM_NAME).exists()
    assert list((tmp_path / "models").glob(f".slim-*/{SLIM_NAME}"))


def test_loaded_model_does_not_depend_on_its_files(model_dir: Path) -> None:
    load(model_dir)
    loaded, by_pytorch = load(model_dir), load_pytorch(model_dir)
    expected = scores(by_pytorch, wave())
    os.replace(model_dir / "tokens.txt", model_dir / SLIM_NAME)
    (model_dir / "model.pt").write_bytes(b"")
    np.testing.assert_allclose(scores(loaded, wave()), expected, atol=1e-5)
    shutil.rmtree(model_dir)
    np.testing.assert_allclose(scores(loaded, wave()), expected, atol=1e-5)
    assert np.array_equal(scores(by_pytorch, wave()), expected)


def test_neither_runtime_depends_on_a_slim_file_that_is_cut(model_dir: Path) -> None:
    load(model_dir)
    # Of the small model nothing is large enough to be left in the file; at full size
    # `test_fullsize` cuts it.
    for loaded in (load(model_dir), load_pytorch(model_dir)):
        expected = scores(loaded, wave())
        content = (model_dir / SLIM_NAME).read_bytes()
        os.truncate(model_dir / SLIM_NAME, 0)
        assert np.array_equal(scores(loaded, wave()), expected)
        (model_dir / SLIM_NAME).write_bytes(content)


def test_old_temporary_files_are_removed(model_dir: Path) -> None:
    old = model_dir / f".{SLIM_NAME}.old"
    young = model_dir / f".{SLIM_NAME}.young"
    old.touch()
    young.touch()
    an_hour_ago = time.time() - STALE_TEMPORARY_S - 1
    os.utime(old, (an_hour_ago, an_hour_ago))
    load(model_dir)
    assert not old.exists() and young.exists()
