"""Where models are looked for, and the names that the hubs give them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from emotion2vec_ui.errors import (
    ModelFilesError,
)
from emotion2vec_ui.models import files
from emotion2vec_ui.settings import Settings

pytestmark = pytest.mark.usefixtures("private_home")


def test_resolve_order(pristine_dir: Path, private_home: Path, tmp_path: Path) -> None:
    settings = Settings()
    assert files.resolve(settings) is None
    commit = "0123456789abcdef0123456789abcdef01234567"
    places = [
        (
            ".cache/huggingface/hub/models--emotion2vec--emotion2vec_plus_large/snapshots/"
            + commit,
            commit,
        ),
        (".cache/modelscope/hub/iic/emotion2vec_plus_large", None),
        (".cache/modelscope/hub/models/iic/emotion2vec_plus_large", None),
        (".cache/modelscope/models/iic--emotion2vec_plus_large/snapshots/master", "master"),
    ]
    # From the last looked at to the first: each new place wins over those before it.
    for place, revision in places:
        shutil.copytree(pristine_dir, private_home / place)
        found = files.resolve(settings)
        expected = (private_home / place, "iic/emotion2vec_plus_large", "cache", revision)
        assert found == files.Location(*expected)
    shutil.copytree(pristine_dir, tmp_path / "models" / "emotion2vec_plus_large")
    found = files.resolve(settings)
    assert found is not None and found.origin == "models/"
    for name in ("emotion2vec_plus_large", "emotion2vec/emotion2vec_plus_large"):
        assert files.resolve(dataclasses.replace(settings, model=name)) == found
    assert files.resolve(Settings(model="iic/emotion2vec_plus_base")) is None


def test_incomplete_cache_counts_as_absent(pristine_dir: Path, private_home: Path) -> None:
    place = private_home / ".cache/modelscope/models/iic--emotion2vec_plus_large/snapshots/master"
    shutil.copytree(pristine_dir, place)
    (place / "model.pt").rename(place / "model.pt.incomplete")
    assert files.resolve(Settings()) is None


def test_path_that_is_not_there() -> None:
    with pytest.raises(ModelFilesError, match="no such directory"):
        files.resolve(Settings(model="./nowhere/at/all"))


def test_ids_of_both_hubs() -> None:
    for name in ("emotion2vec_plus_base", "emotion2vec/emotion2vec_plus_base"):
        assert files.modelscope_id(name) == "iic/emotion2vec_plus_base"
    for name in ("emotion2vec_plus_base", "iic/emotion2vec_plus_base"):
        assert files.hugging_face_id(name) == "emotion2vec/emotion2vec_plus_base"
    assert files.hugging_face_id("someone/their_model") == "someone/their_model"
    assert files.is_hub_id("iic/emotion2vec_plus_base")
    for path in ("./model", "/models/large", "a/b/c", "large", "../x/y", "~/model"):
        assert not files.is_hub_id(path)
