"""The holder: one load for all callers, failures told, the built-in model where allowed."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emotion2vec_ui.errors import (
    DeviceUnavailable,
    ModelDownloadError,
    ModelFilesError,
    ModelNotReady,
    ShuttingDown,
)
from emotion2vec_ui.models import loader
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.settings import Settings
from tests.models.conftest import cut, scores, wave

pytestmark = pytest.mark.usefixtures("private_home")


@pytest.fixture
def holders() -> Iterator[Any]:
    """Makes holders, and stops them."""
    made: list[ModelHolder] = []

    def make(**settings: Any) -> ModelHolder:
        made.append(ModelHolder(Settings(**{"device": "cpu", **settings})))
        return made[-1]

    yield make
    for holder in made:
        holder.stop()


def wait_for(condition: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def test_holder_loads_once_in_the_background(holders: Any, model_dir: Path) -> None:
    holder = holders(model=str(model_dir))
    assert holder.status().state == "idle"
    with pytest.raises(ModelNotReady, match="idle"):
        holder.get(0.0)
    for _ in range(3):
        holder.start()
    got: list[loader.Loaded] = []
    threads = [threading.Thread(target=lambda: got.append(holder.get(20.0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and len({id(loaded) for loaded in got}) == 1
    status = holder.status()
    assert (status.state, status.answering, status.wanted) == ("ready", "tiny", "tiny")
    assert (status.notice, status.error) == (None, None)
    holder.stop()
    with pytest.raises(ShuttingDown):
        holder.get(1.0)
    assert scores(got[0], wave()).shape == (9,)


def test_a_directory_named_compact_is_not_the_built_in_model(
    holders: Any, pristine_dir: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(pristine_dir, tmp_path / "compact")
    holder = holders(model=str(place))
    assert not holder.status().answering_built_in
    holder.start()
    assert not holder.get(20.0).is_built_in
    status = holder.status()
    assert (status.answering, status.answering_built_in) == ("compact", False)


def test_failed_load_tells_why_and_can_be_retried(holders: Any, model_dir: Path) -> None:
    content = (model_dir / "model.pt").read_bytes()
    cut(model_dir)
    holder = holders(model=str(model_dir))
    holder.start()
    for _ in range(2):
        with pytest.raises(ModelFilesError, match="cut or damaged"):
            holder.get(20.0)
    status = holder.status()
    assert (status.state, status.answering) == ("failed", None)
    assert status.error is not None and status.error.code == "model_files"
    (model_dir / "model.pt").write_bytes(content)
    holder.retry()
    assert holder.get(20.0).id == "tiny"
    assert holder.status().error is None


def test_named_model_is_never_replaced(holders: Any) -> None:
    holder = holders(model="iic/emotion2vec_plus_base", offline=True)
    holder.start()
    with pytest.raises(ModelDownloadError, match="--offline forbids"):
        holder.get(20.0)
    assert holder.status().answering is None


def test_auto_offline_answers_with_compact(holders: Any) -> None:
    holder = holders(offline=True)
    holder.start()
    assert holder.get(20.0).is_built_in
    status = holder.status()
    assert (status.state, status.answering) == ("ready", "compact")
    assert status.answering_built_in
    assert (status.wanted, status.notice) == ("iic/emotion2vec_plus_large", "compact_offline")


def test_auto_takes_plus_large_where_it_is(
    holders: Any, pristine_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(pristine_dir, tmp_path / "models" / "emotion2vec_plus_large")
    holder = holders()
    holder.start()
    loaded = holder.get(20.0)
    assert (loaded.id, loaded.origin) == ("iic/emotion2vec_plus_large", "models/")
    assert holder.status().notice is None


def test_auto_with_damaged_files_says_so(holders: Any, pristine_dir: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(pristine_dir, tmp_path / "models" / "emotion2vec_plus_large"))
    cut(place)
    holder = holders()
    holder.start()
    assert holder.get(20.0).is_built_in
    wait_for(lambda: holder.status().state == "failed")
    status = holder.status()
    assert status.notice == "compact_load_failed"
    assert status.error is not None and "model.pt" in str(status.error)


def test_auto_does_not_hide_a_missing_device(holders: Any) -> None:
    holder = holders(device="cuda:99", offline=True)
    holder.start()
    with pytest.raises(DeviceUnavailable):
        holder.get(20.0)
