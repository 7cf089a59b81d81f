"""The loader against good, cut, wrong and replaced files; funasr's AutoModel is the reference."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from emotion2vec_ui.errors import (
    DeviceUnavailable,
    ModelDownloadError,
    ModelFilesError,
    ModelNotReady,
    ShuttingDown,
)
from emotion2vec_ui.models import compact, files
from emotion2vec_ui.models import loader as model
from emotion2vec_ui.models.download import sha256_of
from emotion2vec_ui.models.files import SLIM_NAME
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.models.weights import STALE_TEMPORARY_S
from emotion2vec_ui.settings import ROOT_DIR, Settings
from tests import tiny

LABELS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)


@pytest.fixture(scope="session")
def pristine_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model_dir(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model_dir(pristine_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine_dir, tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is looked up in, or written to, the caches and models/ of this machine."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Settings, "models_dir", property(lambda self: tmp_path / "models"))
    return home


@pytest.fixture
def small_compact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built-in model of random weights: the real class, file format and loader."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    config = compact.Config(width=32, heads=2, layers=1, dim=16)
    directory = tmp_path / "compact"
    directory.mkdir()
    state = compact.quantise(compact.Compact(config).state_dict())
    metadata = compact.save_metadata(config, "test")
    save_file(state, directory / compact.WEIGHTS_NAME, metadata=metadata)
    card = {"embedding_norm": [1.5, 2.5]}
    (directory / compact.CARD_NAME).write_text(json.dumps(card))
    monkeypatch.setattr(compact, "DIRECTORY", directory)
    return directory


def load(directory: Path, **settings: Any) -> model.Loaded:
    wanted = Settings(model=str(directory), **{"device": "cpu", **settings})
    location = files.resolve(wanted)
    assert location is not None
    return model.load(location, wanted)


def scores(loaded: model.Loaded, wave: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        clip = torch.from_numpy(wave)
        clip = torch.nn.functional.layer_norm(clip, clip.shape).unsqueeze(0).to(loaded.dtype)
        logits = loaded.backbone.proj(loaded.backbone(clip).mean(1)).float()
        return torch.softmax(logits, -1)[0].numpy()


def wave(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.standard_normal(int(16_000 * seconds)).astype(np.float32)


def rewrite_weights(directory: Path, change: Any) -> None:
    checkpoint = torch.load(directory / "model.pt", weights_only=True)
    change(checkpoint["model"])
    torch.save(checkpoint, directory / "model.pt")


# --- what is loaded ---


@pytest.fixture(scope="session")
def automodel_result(pristine_dir: Path) -> dict[str, Any]:
    """What funasr itself says of the tiny model; in a process of its own, for funasr changes
    threads, seeds and logging of the one it runs in.
    """
    code = (
        "import sys, json; sys.path[:0] = sys.argv[2:]\n"
        "from emotion2vec_ui.models.upstream import fit_torchaudio; fit_torchaudio()\n"
        "import numpy as np; from funasr import AutoModel\n"
        "m = AutoModel(model=sys.argv[1], device='cpu', ncpu=1, disable_update=True,"
        " disable_pbar=True, log_level='ERROR')\n"
        "w = np.random.default_rng(7).standard_normal(16000).astype(np.float32)\n"
        "r = m.generate(w, granularity='utterance', extract_embedding=True)[0]\n"
        "r['feats'] = r['feats'].tolist(); print(); print(json.dumps(r))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(pristine_dir), str(ROOT_DIR)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_scores_and_embedding_equal_funasr(
    model_dir: Path, automodel_result: dict[str, Any]
) -> None:
    assert automodel_result["labels"] == list(tiny.TOKENS)
    for attempt in ("from the checkpoint", "from the slim weights"):
        loaded = load(model_dir)
        difference = np.abs(scores(loaded, wave()) - automodel_result["scores"]).max()
        assert difference < 1e-5, attempt
        with torch.inference_mode():
            clip = torch.nn.functional.layer_norm(torch.from_numpy(wave()), (16_000,))
            embedding = loaded.backbone(clip.unsqueeze(0)).mean(1)[0].numpy()
        assert np.abs(embedding - automodel_result["feats"]).max() < 1e-4, attempt
    # Nine scores that differ: the equality above says something.
    assert np.ptp(automodel_result["scores"]) > 0.1


def test_loaded_says_what_it_is(model_dir: Path) -> None:
    (model_dir / "reference.json").write_text('{"embedding_norm": [1.8, 2.2]}')
    loaded = load(model_dir)
    assert loaded.labels == LABELS
    assert loaded.label_names == tiny.TOKENS
    assert (loaded.id, loaded.origin, loaded.revision) == ("tiny", "directory", None)
    assert loaded.weights_sha256 == sha256_of(model_dir / "model.pt")
    assert (loaded.device, loaded.dtype, loaded.precision) == ("cpu", torch.float32, "fp32")
    assert (loaded.dim, loaded.parameters, loaded.is_compact) == (48, 118_557, False)
    assert loaded.embedding_norm == (1.8, 2.2)
    assert loaded.backbone.n_frames(16_000) == 49
    assert not loaded.backbone.training
    assert not any(p.requires_grad or p.is_meta for p in loaded.backbone.parameters())


def test_compact_has_the_same_interface(small_compact: Path) -> None:
    loaded = load(Path("compact"))
    assert (loaded.id, loaded.origin, loaded.is_compact) == ("compact", "built in", True)
    assert loaded.labels == LABELS
    assert loaded.embedding_norm == (1.5, 2.5)
    assert scores(loaded, wave()).sum() == pytest.approx(1.0)


def test_order_of_labels_is_the_models(model_dir: Path) -> None:
    reordered = list(reversed(tiny.TOKENS))
    (model_dir / "tokens.txt").write_text("\n".join(reordered) + "\n", encoding="utf-8")
    assert load(model_dir).labels == tuple(reversed(LABELS))


def test_checkpoint_in_other_nestings_and_formats(model_dir: Path) -> None:
    expected = scores(load(model_dir), wave())
    weights = torch.load(model_dir / "model.pt", weights_only=True)["model"]
    plain = {key.removeprefix("d2v_model."): value for key, value in weights.items()}
    for content in ({"state_dict": weights}, weights, plain, {"model_state_dict": plain}):
        torch.save(content, model_dir / "model.pt")
        assert np.array_equal(scores(load(model_dir), wave()), expected)
    # The format before torch 1.6 cannot be mapped.
    torch.save(weights, model_dir / "model.pt", _use_new_zipfile_serialization=False)
    assert np.array_equal(scores(load(model_dir), wave()), expected)


# --- files that cannot be used ---


def cut(directory: Path) -> None:
    os.truncate(directory / "model.pt", (directory / "model.pt").stat().st_size // 2)


def flip(directory: Path) -> None:
    (directory / "model.pt").write_bytes(b"not a checkpoint at all" * 100)


def pointer(name: str) -> Any:
    def change(directory: Path) -> None:
        text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1968722255\n"
        (directory / name).write_text(text)

    return change


def change_config(**values: Any) -> Any:
    def change(directory: Path) -> None:
        config = yaml.safe_load((directory / "config.yaml").read_text())
        config.update(values)
        (directory / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def tokens(lines: tuple[str, ...]) -> Any:
    return lambda directory: (directory / "tokens.txt").write_text("\n".join(lines), "utf-8")


def weights(change: Any) -> Any:
    return lambda directory: rewrite_weights(directory, change)


def with_nan(state: dict[str, torch.Tensor]) -> None:
    state["d2v_model.blocks.1.mlp.fc1.weight"][3, 5] = float("nan")


def with_infinity(state: dict[str, torch.Tensor]) -> None:
    state["proj.bias"][2] = float("inf")


def without_proj(state: dict[str, torch.Tensor]) -> None:
    del state["proj.weight"], state["proj.bias"]


def without_block(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if key.startswith("d2v_model.blocks.0.")]:
        del state[key]


def with_five_outputs(state: dict[str, torch.Tensor]) -> None:
    state["proj.weight"] = state["proj.weight"][:5].clone()
    state["proj.bias"] = state["proj.bias"][:5].clone()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda d: (d / "model.pt").unlink(), "missing"),
        (lambda d: (d / "config.yaml").unlink(), "missing"),
        (lambda d: (d / "tokens.txt").unlink(), "missing"),
        (lambda d: (d / "model.pt").write_bytes(b""), "empty"),
        (cut, "cut or damaged"),
        (flip, "cut or damaged"),
        (pointer("model.pt"), "git lfs pull"),
        (pointer("tokens.txt"), "git lfs pull"),
        (tokens(tiny.OLD_TOKENS), "5 usable ones.*revision `master`"),
        (tokens(tiny.TOKENS[:5]), "5 usable ones"),
        (tokens((*tiny.TOKENS[:8], "x/bored")), "not emotion2vec's nine"),
        (lambda d: (d / "tokens.txt").write_bytes(b"\xff\xfe\x00"), "cut or damaged"),
        (lambda d: (d / "config.yaml").write_text("model: ["), "cut or damaged"),
        (change_config(model="Paraformer"), r"Emotion2vec model \(model: Paraformer"),
        (change_config(model_conf={"depth": 2}), "cannot be built"),
        (weights(with_nan), "blocks.1.mlp.fc1.weight holds NaN"),
        (weights(with_infinity), "proj.bias holds NaN or infinite"),
        (weights(without_proj), "2 of the weights are missing: proj.bias, proj.weight"),
        (weights(without_block), "of the weights are missing: blocks.0"),
        (weights(with_five_outputs), "has the shape 5.*9.* was expected"),
    ],
)
def test_unusable_files_are_errors(model_dir: Path, damage: Any, expected: str) -> None:
    damage(model_dir)
    with pytest.raises(ModelFilesError, match=f"(?s){expected}") as caught:
        load(model_dir)
    assert str(model_dir) in caught.value.message("zh")
    assert not (model_dir / SLIM_NAME).exists()
    assert not list(model_dir.glob(".*")), "a temporary file was left"


def test_missing_decoder_is_no_loss(model_dir: Path) -> None:
    expected = scores(load(model_dir), wave())

    def without_decoder(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if ".decoder." in key]:
            del state[key]

    rewrite_weights(model_dir, without_decoder)
    assert np.array_equal(scores(load(model_dir), wave()), expected)


def test_code_in_a_checkpoint_is_not_run(model_dir: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"model": Attack()}, model_dir / "model.pt")
    with pytest.raises(ModelFilesError):
        load(model_dir)
    assert not (tmp_path / "owned").exists()


# --- slim weights ---


def test_slim_weights_are_a_safetensors_file(model_dir: Path) -> None:
    from safetensors import safe_open

    loaded = load(model_dir)
    with safe_open(model_dir / SLIM_NAME, framework="pt") as file:
        metadata = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = loaded.backbone.module.state_dict()
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


def test_replaced_checkpoint_rebuilds_slim_weights(model_dir: Path, tmp_path: Path) -> None:
    before = load(model_dir)
    other = tiny.build_model_dir(tmp_path / "other", seed=1)
    os.replace(other / "model.pt", model_dir / "model.pt")
    after = load(model_dir)
    assert after.weights_sha256 != before.weights_sha256
    assert not np.array_equal(scores(after, wave()), scores(before, wave()))
    assert load(model_dir).weights_sha256 == after.weights_sha256


@pytest.mark.parametrize("damage", ["cut", "garbage", "nan", "other shape"])
def test_damaged_slim_weights_are_rebuilt(model_dir: Path, damage: str) -> None:
    expected = scores(load(model_dir), wave())
    slim = model_dir / SLIM_NAME
    content = slim.read_bytes()
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
    assert np.array_equal(scores(loaded, wave()), expected)
    assert loaded.weights_sha256 == sha256_of(model_dir / "model.pt")


def test_no_hub_cache_means_none_for_slim_weights_either(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(model_dir), device="cpu", no_hf_weights_cache=True)
    model.load(files.Location(model_dir, "tiny", "cache"), settings)
    assert not (model_dir / SLIM_NAME).exists()
    assert list((tmp_path / "models").glob(f".slim-*/{SLIM_NAME}"))


def test_loaded_model_does_not_depend_on_its_files(model_dir: Path) -> None:
    load(model_dir)
    loaded = load(model_dir)
    expected = scores(loaded, wave())
    os.truncate(model_dir / SLIM_NAME, 0)  # a mapped file would end the process here
    (model_dir / "model.pt").write_bytes(b"")
    assert np.array_equal(scores(loaded, wave()), expected)
    shutil.rmtree(model_dir)
    assert np.array_equal(scores(loaded, wave()), expected)


def test_old_temporary_files_are_removed(model_dir: Path) -> None:
    old = model_dir / f".{SLIM_NAME}.old"
    young = model_dir / f".{SLIM_NAME}.young"
    old.touch()
    young.touch()
    an_hour_ago = time.time() - STALE_TEMPORARY_S - 1
    os.utime(old, (an_hour_ago, an_hour_ago))
    load(model_dir)
    assert not old.exists() and young.exists()


# --- device and precision ---


def test_absent_device_is_an_error(model_dir: Path) -> None:
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        with pytest.raises(DeviceUnavailable, match=f"{count} GPUs"):
            load(model_dir, device=f"cuda:{count}")
    else:
        with pytest.raises(DeviceUnavailable, match="cuda"):
            load(model_dir, device="cuda")


@pytest.mark.parametrize(
    ("flags", "bf16", "precision", "note"),
    [
        ({}, True, "fp32", None),
        ({"medvq": True}, True, "bf16", None),
        ({"medvq": True}, False, "fp32", "--medvq has nothing to act on"),
        ({"low_vram": True}, True, "fp32", "--low-vram has nothing to act on"),
        ({"precision": "bf16"}, True, "bf16", None),
        ({"precision": "bf16"}, False, "bf16", "slow"),
        ({"precision": "fp16"}, False, "fp16", None),
        ({"precision": "fp16", "medvq": True}, True, "fp16", None),
    ],
)
def test_precision_on_a_cpu(
    flags: dict[str, Any],
    bf16: bool,
    precision: str,
    note: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "_has_bf16", lambda device: bf16)
    found, notes = model.choose_precision(Settings(**flags), "cpu")
    assert found == precision
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp16")])
@pytest.mark.parametrize("flag", ["medvq", "low_vram"])
def test_precision_on_a_gpu(
    flag: str, bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_has_bf16", lambda device: bf16)
    assert model.choose_precision(Settings(**{flag: True}), "cuda:0") == (precision, [])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_stay_close(model_dir: Path, precision: str) -> None:
    expected = scores(load(model_dir), wave())
    loaded = load(model_dir, precision=precision)
    assert {p.dtype for p in loaded.backbone.parameters()} == {loaded.dtype}
    assert np.abs(scores(loaded, wave()) - expected).max() < 0.05


# --- finding ---


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


# --- funasr and torchaudio ---


def test_importing_the_module_is_cheap() -> None:
    code = (
        "import sys, emotion2vec_ui.models.loader, emotion2vec_ui.doctor\n"
        "heavy = {'torch', 'funasr', 'modelscope', 'modelscope_hub', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT_DIR, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


FUNASR_AFTERWARDS = """
import sys
from emotion2vec_ui.models import upstream
with upstream.emotion2vec_class() as first: pass
with upstream.emotion2vec_class() as second: pass
assert first is second
assert not [m for m in sys.modules if m.partition('.')[0] == 'funasr'], 'left behind'
import funasr
from funasr import AutoModel
from funasr.register import tables
assert funasr.__file__ and funasr.__version__
assert 'Paraformer' in tables.model_classes and 'Emotion2vec' in tables.model_classes
assert funasr.models.emotion2vec.model.Emotion2vec is tables.model_classes['Emotion2vec']
with upstream.emotion2vec_class() as third: pass
assert third is tables.model_classes['Emotion2vec']
assert sys.modules['funasr'] is funasr
print('fine')
"""


@pytest.mark.slow
def test_ordinary_funasr_import_works_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUNASR_AFTERWARDS], cwd=ROOT_DIR, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]


TORCHAUDIO = """
import sys
from emotion2vec_ui.models import upstream
try:
    import torchaudio
    fits = True
except ImportError:
    fits = None
except OSError:
    fits = False
print(fits)
upstream.fit_torchaudio()
stubbed = not hasattr(sys.modules.get('torchaudio._extension'), '__file__')
if fits is not None:
    import torch, torchaudio
    assert torchaudio.functional.resample(torch.zeros(1, 800), 8000, 16000).shape == (1, 1600)
    assert stubbed == (not fits), (stubbed, fits)
else:
    assert 'torchaudio' not in sys.modules
with upstream.emotion2vec_class() as cls:
    assert cls.__name__ == 'Emotion2vec'
print('fine')
"""


def write_torchaudio(folder: Path, loads: bool) -> Path:
    """A package with torchaudio's shape, whose native part loads or fails as the real one does."""
    package = folder / "torchaudio"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import _extension\nfrom . import functional\n")
    failure = "raise OSError('libc10_cuda.so: cannot open shared object file')\n"
    extension = "_IS_TORCHAUDIO_EXT_AVAILABLE = True\ndef fail_if_no_align(f): return f\n"
    (package / "_extension.py").write_text(extension if loads else failure)
    (package / "functional.py").write_text(
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "@fail_if_no_align\n"
        "def resample(x, old, new): return x.repeat_interleave(new // old, dim=-1)\n"
    )
    return folder


@pytest.mark.parametrize("kind", ["installed", "fits", "mismatched", "absent"])
def test_torchaudio(kind: str, tmp_path: Path) -> None:
    environment = dict(os.environ)
    code = TORCHAUDIO
    if kind == "absent":
        code = "import sys; sys.modules['torchaudio'] = None\n" + code.replace(
            "'torchaudio' not in sys.modules", "sys.modules['torchaudio'] is None"
        )
    elif kind != "installed":
        folder = write_torchaudio(tmp_path, loads=kind == "fits")
        environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT_DIR,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("fine"), done.stderr[-3000:]
    first = done.stdout.split()[0]
    assert first == {"fits": "True", "mismatched": "False", "absent": "None"}.get(kind, first)


# --- the holder ---


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
    got: list[model.Loaded] = []
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


def test_named_model_is_never_replaced(holders: Any, small_compact: Path) -> None:
    holder = holders(model="iic/emotion2vec_plus_base", offline=True)
    holder.start()
    with pytest.raises(ModelDownloadError, match="--offline forbids"):
        holder.get(20.0)
    assert holder.status().answering is None


def test_auto_offline_answers_with_compact(holders: Any, small_compact: Path) -> None:
    holder = holders(offline=True)
    holder.start()
    assert holder.get(20.0).is_compact
    status = holder.status()
    assert (status.state, status.answering) == ("ready", "compact")
    assert (status.wanted, status.notice) == ("iic/emotion2vec_plus_large", "compact_offline")


def test_auto_takes_plus_large_where_it_is(
    holders: Any, small_compact: Path, pristine_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(pristine_dir, tmp_path / "models" / "emotion2vec_plus_large")
    holder = holders()
    holder.start()
    loaded = holder.get(20.0)
    assert (loaded.id, loaded.origin) == ("iic/emotion2vec_plus_large", "models/")
    assert holder.status().notice is None


def test_auto_with_damaged_files_says_so(
    holders: Any, small_compact: Path, pristine_dir: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(pristine_dir, tmp_path / "models" / "emotion2vec_plus_large"))
    cut(place)
    holder = holders()
    holder.start()
    assert holder.get(20.0).is_compact
    wait_for(lambda: holder.status().state == "failed")
    status = holder.status()
    assert status.notice == "compact_load_failed"
    assert status.error is not None and "model.pt" in str(status.error)


def test_auto_does_not_hide_a_missing_device(holders: Any, small_compact: Path) -> None:
    holder = holders(device="cuda:99", offline=True)
    holder.start()
    with pytest.raises(DeviceUnavailable):
        holder.get(20.0)
