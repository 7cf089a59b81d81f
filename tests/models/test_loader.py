"""The loader on good, cut, wrong and foreign files; device and precision."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks import random_model
from emotion2vec_ui.errors import (
    DeviceUnavailable,
    ModelFilesError,
)
from emotion2vec_ui.hashing import sha256_of
from emotion2vec_ui.models import files, loader, runtime
from emotion2vec_ui.models.files import SLIM_NAME
from emotion2vec_ui.settings import Settings
from tests.models.conftest import cut, load, load_pytorch, rewrite_weights, scores, wave

pytestmark = pytest.mark.usefixtures("private_home")


def test_loaded_says_what_it_is(model_dir: Path) -> None:
    (model_dir / "reference.json").write_text('{"embedding_norm": [1.8, 2.2]}')
    loaded = load(model_dir)
    assert (loaded.id, loaded.origin, loaded.revision) == ("tiny", "directory", None)
    assert loaded.weights_sha256 == sha256_of(model_dir / "model.pt")
    network = loaded.network
    assert (network.runtime, network.device, network.precision) == ("openvino", "cpu", "fp32")
    assert (loaded.dim, loaded.parameters, loaded.is_built_in) == (48, 118_557, False)
    assert loaded.embedding_norm == (1.8, 2.2)
    ((features, logits),) = network.run([wave(1)])
    assert (features.shape, logits.shape) == ((49, 48), (49, 9))
    assert features.dtype == logits.dtype == np.float32
    by_pytorch = load_pytorch(model_dir)
    assert by_pytorch.network.runtime == "pytorch"
    assert (by_pytorch.dim, by_pytorch.parameters) == (48, 118_557)
    assert by_pytorch.weights_sha256 == loaded.weights_sha256
    backbone = by_pytorch.network.backbone
    assert backbone(torch.zeros(1, 16_000)).shape == (1, 49, 48)
    assert not backbone.training
    assert not any(p.requires_grad or p.is_meta for p in backbone.parameters())


def test_the_built_in_model_has_the_same_interface() -> None:
    loaded = load("compact")
    assert (loaded.id, loaded.origin, loaded.is_built_in) == ("compact", "built in", True)
    assert (loaded.dim, scores(loaded, wave()).shape) == (512, (9,))
    card = json.loads((files.BUILT_IN_DIRECTORY / "card.json").read_text(encoding="utf-8"))
    norm = card["embedding_norm"]
    assert loaded.embedding_norm == (norm["low"], norm["high"])
    assert scores(loaded, wave()).sum() == pytest.approx(1.0)


def test_a_damaged_built_in_model_is_a_model_files_error(tmp_path: Path) -> None:
    place = Path(shutil.copytree(files.BUILT_IN_DIRECTORY, tmp_path / "built_in"))
    location = files.Location(place, "compact", files.BUILT_IN)
    for content in (b"", b"no safetensors" * 100):
        (place / files.BUILT_IN_WEIGHTS_NAME).write_bytes(content)
        with pytest.raises(ModelFilesError, match="cut or damaged"):
            loader.load(location, Settings(device="cpu"))


def test_reference_norms_that_make_no_sense_are_refused(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = model_dir / "reference.json"
    norms = ("[2, 1]", "[1, 1]", "[-1, 2]", "[1, NaN]", "[1, Infinity]", "[1]", "[1, 2, 3]", '"12"')
    nonsense = [f'{{"embedding_norm": {norm}}}' for norm in (*norms, '["1", "2"]', '{"low": 1}')]
    for text in (*nonsense, "{}", "[1, 2]", "{"):
        caplog.clear()
        reference.write_text(text)
        assert load(model_dir).embedding_norm is None, text
        assert [record for record in caplog.records if "reference.json" in record.message], text
    caplog.clear()
    reference.unlink()
    assert load(model_dir).embedding_norm is None
    assert not caplog.records


def test_disabling_compiled_kernels_means_eager_pytorch(model_dir: Path) -> None:
    compiled, eager = load(model_dir), load_pytorch(model_dir)
    assert (compiled.network.runtime, eager.network.runtime) == ("openvino", "pytorch")
    np.testing.assert_allclose(scores(compiled, wave()), scores(eager, wave()), atol=1e-5)


def test_the_heads_rows_are_put_in_the_order_of_emotions(model_dir: Path) -> None:
    """Nine labels in any order in the files; the same head, bit for bit, once loaded."""
    expected = load_pytorch(model_dir)
    order = np.random.default_rng(3).permutation(9)
    tokens(tuple(random_model.TOKENS[i] for i in order))(model_dir)

    def reorder(state: dict[str, torch.Tensor]) -> None:
        for name in ("proj.weight", "proj.bias"):
            state[name] = state[name][order.tolist()]

    rewrite_weights(model_dir, reorder)
    for attempt in ("from the checkpoint", "from the slim weights"):
        loaded = load_pytorch(model_dir)
        for name in ("weight", "bias"):
            got, want = (getattr(one.network.backbone.proj, name) for one in (loaded, expected))
            assert torch.equal(got, want), attempt
        assert np.array_equal(scores(loaded, wave()), scores(expected, wave())), attempt
    np.testing.assert_allclose(scores(load(model_dir), wave()), scores(expected, wave()), atol=1e-5)


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


def test_unusable_files_are_errors(
    pristine_dir: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for damage, expected in [
        (lambda d: (d / "model.pt").unlink(), "missing"),
        (lambda d: (d / "config.yaml").unlink(), "missing"),
        (lambda d: (d / "tokens.txt").unlink(), "missing"),
        (lambda d: (d / "model.pt").write_bytes(b""), "empty"),
        (cut, "cut or damaged"),
        (flip, "cut or damaged"),
        (pointer("model.pt"), "git lfs pull"),
        (pointer("tokens.txt"), "git lfs pull"),
        (tokens(random_model.OLD_TOKENS), "5 usable ones.*revision `master`"),
        (tokens(random_model.TOKENS[:5]), "5 usable ones"),
        (tokens((*random_model.TOKENS[:8], "x/bored")), "not emotion2vec's nine"),
        (lambda d: (d / "tokens.txt").write_bytes(b"\xff\xfe\x00"), "cut or damaged"),
        (lambda d: (d / "config.yaml").write_text("model: ["), "cut or damaged"),
        (change_config(model="Paraformer"), r"Emotion2vec model \(model: Paraformer"),
        (change_config(model_conf={"depth": 2}), "cannot be built"),
        (weights(with_nan), "blocks.1.mlp.fc1.weight holds NaN"),
        (weights(with_infinity), "proj.bias holds NaN or infinite"),
        (weights(without_proj), "2 of the weights are missing: proj.bias, proj.weight"),
        (weights(without_block), "of the weights are missing: blocks.0"),
        (weights(with_five_outputs), "has the shape 5.*9.* was expected"),
    ]:
        with subtests.test(expected=expected):
            model_dir = Path(tempfile.mkdtemp(dir=tmp_path), "tiny")
            shutil.copytree(pristine_dir, model_dir)
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


# --- device and precision ---


def test_absent_device_is_an_error(model_dir: Path) -> None:
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        with pytest.raises(DeviceUnavailable, match=f"{count} GPUs"):
            load(model_dir, device=f"cuda:{count}")
    else:
        with pytest.raises(DeviceUnavailable, match="cuda"):
            load(model_dir, device="cuda")


PRECISIONS = (
    # device, bf16 in hardware, flags, precision, note
    ("cpu", True, {}, "fp32", None),
    ("cpu", True, {"medvq": True}, "bf16", None),
    ("cpu", False, {"medvq": True}, "fp32", "--medvq has nothing to act on"),
    ("cpu", True, {"low_vram": True}, "fp32", "--low-vram has nothing to act on"),
    ("cpu", True, {"precision": "bf16"}, "bf16", None),
    ("cpu", False, {"precision": "bf16"}, "bf16", "slow"),
    ("cpu", False, {"precision": "fp16"}, "fp16", None),
    ("cpu", True, {"precision": "fp16", "medvq": True}, "fp16", None),
    ("cuda:0", True, {"medvq": True}, "bf16", None),
    ("cuda:0", False, {"medvq": True}, "fp16", None),
    ("cuda:0", True, {"low_vram": True}, "bf16", None),
    ("cuda:0", False, {"low_vram": True}, "fp16", None),
)


def test_precision_follows_flags_and_hardware() -> None:
    for device, bf16, flags, precision, note in PRECISIONS:
        found, notes = runtime.choose_precision(Settings(**flags), device, has_bf16=bf16)
        assert found == precision, (device, bf16, flags)
        assert len(notes) == (note is not None), (device, bf16, flags)
        assert note is None or note in notes[0]


def test_eight_bits_do_not_stop_the_built_in_model() -> None:
    found, notes = runtime.choose_precision(
        Settings(precision="int8"), "cpu", has_bf16=True, built_in=True
    )
    assert found == "fp32" and len(notes) == 1 and "nothing to act on" in notes[0]


def test_bf16_of_this_cpu_is_what_the_system_says() -> None:
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert runtime.has_bf16("cpu") == bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)


def test_sixteen_bits_stay_close(model_dir: Path, subtests: pytest.Subtests) -> None:
    expected = scores(load(model_dir), wave())
    for precision in ["bf16", "fp16"]:
        with subtests.test(precision=precision):
            loaded = load_pytorch(model_dir, precision=precision)
            (dtype,) = {p.dtype for p in loaded.network.backbone.parameters()}
            assert str(dtype) == {"bf16": "torch.bfloat16", "fp16": "torch.float16"}[precision]
            assert np.abs(scores(loaded, wave()) - expected).max() < 0.05
