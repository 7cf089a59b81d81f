"""The engine against funasr's own AutoModel, and against itself in every grouping."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import offline
from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.errors import OutOfMemory
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models import engine
from tests.networks import with_backbone

LENGTHS_S = (0.025, 0.3, 1.0, 1.017, 2.0, 3.3, 7.77)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    clips = [speechlike(s, seed=i) for i, s in enumerate(LENGTHS_S)]
    return [clip if len(clip) >= 400 else speechlike(0.0251)[:400] for clip in clips]


@pytest.fixture(scope="module")
def reference(tiny_dir: Path, clips):
    """Scores and embeddings of the clips by AutoModel.generate, one at a time."""
    return funasr_reference(tiny_dir, clips)


def funasr_reference(model_dir: Path, clips) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    from emotion2vec_ui.models.upstream import make_torchaudio_importable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what funasr and its imports warn of is not ours
        make_torchaudio_importable()
        from funasr import AutoModel

        model = AutoModel(
            model=str(model_dir), device="cpu", disable_update=True, disable_pbar=True, ncpu=2
        )
        answers = []
        for clip in clips:
            # A copy each: the reference must not see what the engine does to its input.
            utterance = model.generate(clip.copy(), granularity="utterance")[0]
            frame = model.generate(clip.copy(), granularity="frame")[0]
            answers.append((np.array(utterance["scores"]), utterance["feats"], frame["feats"]))
    return answers


def assert_equal(predictions, reference) -> None:
    for got, (scores, embedding, features) in zip(predictions, reference, strict=True):
        np.testing.assert_allclose(got.scores, scores, atol=1e-5, rtol=0)
        np.testing.assert_allclose(got.embedding, embedding, atol=1e-4, rtol=0)
        if got.frame_features is not None:
            np.testing.assert_allclose(got.frame_features, features, atol=1e-4, rtol=0)


@pytest.mark.parametrize("runtime", ["tiny", "tiny_pytorch"])
def test_each_clip_alone_equals_funasr(runtime, clips, reference, request):
    loaded = request.getfixturevalue(runtime)
    predictions = [offline.predict(loaded, [clip], frames=True, features=True)[0] for clip in clips]
    assert_equal(predictions, reference)


@pytest.mark.parametrize("runtime", ["tiny", "tiny_pytorch"])
def test_any_batch_equals_funasr(runtime, clips, reference, request, subtests):
    loaded = request.getfixturevalue(runtime)
    for batch_s in [0.0, 5.0, 1000.0]:
        with subtests.test(batch_s=batch_s):
            assert_equal(offline.predict(loaded, clips, features=True, batch_s=batch_s), reference)


def test_labels_in_another_order_equal_funasr_by_label(tmp_path, clips):
    """The files name the head's outputs in any order; ours are always in that of EMOTIONS."""
    from benchmarks.random_model import TOKENS, build_model_dir
    from emotion2vec_ui.models.files import resolve
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.settings import Settings

    directory = build_model_dir(tmp_path / "tiny")
    tokens = [*TOKENS[4:], *TOKENS[:4]]
    (directory / "tokens.txt").write_text("\n".join(tokens), encoding="utf-8")
    names = ["unknown" if token == "<unk>" else token.partition("/")[2] for token in tokens]
    settings = Settings(model=str(directory), device="cpu")
    loaded = load(resolve(settings), settings)
    for clip, (theirs, *_) in zip(clips, funasr_reference(directory, clips), strict=True):
        by_label = dict(zip(names, theirs, strict=True))
        expected = [by_label[emotion] for emotion in EMOTIONS]
        got = offline.predict(loaded, [clip], frames=True)[0]
        np.testing.assert_allclose(got.scores, expected, atol=1e-5, rtol=0)
        np.testing.assert_allclose(got.frame_logits.mean(axis=0), got.logits, atol=1e-5)


def test_order_does_not_matter(tiny, clips):
    forward = offline.predict(tiny, clips, batch_s=1000)
    backward = offline.predict(tiny, clips[::-1], batch_s=1000)[::-1]
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)


def test_gain_does_not_matter(tiny, clips, subtests):
    # Within bounds: upstream's normalisation adds 1e-5 to the variance, which recordings below
    # about -40 dBFS feel. Equality with upstream comes first; the quality report tells the level.
    clip = clips[-1]
    loud = offline.predict(tiny, [clip])[0].scores
    for gain_db in [-20, 20]:
        with subtests.test(gain_db=gain_db):
            other = offline.predict(tiny, [clip * np.float32(10 ** (gain_db / 20))])[0].scores
            np.testing.assert_allclose(other, loud, atol=2e-3)


def test_frame_logits_average_to_the_utterance(tiny, clips):
    for prediction in offline.predict(tiny, clips, frames=True):
        np.testing.assert_allclose(
            prediction.frame_logits.mean(axis=0), prediction.logits, atol=1e-5
        )
        assert prediction.scores.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(prediction.frame_scores.sum(axis=1), 1.0, atol=1e-12)


def test_frames_are_20_ms_apart(tiny):
    for n in (400, 719, 720, 16_000, 16_080):
        prediction = offline.predict(tiny, [speechlike(2)[:n]], frames=True)[0]
        assert prediction.n_frames == len(prediction.frame_logits) == (n - 400) // 320 + 1


@given(
    n_samples=st.integers(400, 16_000 * 600),
    window_s=st.sampled_from([4.0, engine.LOW_VRAM_WINDOW_S, engine.WINDOW_S]),
)
def test_windows_give_every_frame_once(n_samples, window_s):
    windows = engine.plan(n_samples, window_s)
    total = (n_samples - 400) // 320 + 1
    given_frames = []
    for window in windows:
        assert 400 <= window.n_samples <= window_s * 16_000
        assert window.start % 320 == 0 and window.stop <= n_samples
        assert 0 <= window.first < window.last <= (window.n_samples - 400) // 320 + 1
        offset = window.start // 320
        given_frames.append((offset + window.first, offset + window.last))
    assert given_frames[0][0] == 0 and given_frames[-1][1] == total
    assert all(a[1] == b[0] for a, b in itertools.pairwise(given_frames))
    if len(windows) > 1:
        # Inner edges have a second of context on both sides.
        assert all(window.first >= 50 for window in windows[1:])


def test_windows_that_repeat_the_same_sound_score_as_one(tiny):
    # 20.48 s of a sound that repeats every 1.28 s: windows of a periodic signal see the same thing,
    # so cutting it must not change the scores beyond what the edges do.
    period = speechlike(1.28)
    clip = np.tile(period, 16)
    whole = offline.predict(tiny, [clip], window_s=30)[0].scores
    cut = offline.predict(tiny, [clip], window_s=8)[0].scores
    np.testing.assert_allclose(cut, whole, atol=0.02)


class Crowded(torch.nn.Module):
    """A backbone on a device that has room for `room` windows at a time."""

    def __init__(self, backbone: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.room = room
        self.largest = 0

    @property
    def proj(self) -> torch.nn.Linear:
        return self.backbone.proj

    def forward(self, waves, n_samples):
        if len(waves) > self.room:
            raise torch.OutOfMemoryError("simulated")
        self.largest = max(self.largest, len(waves))
        return self.backbone(waves, n_samples)


def test_out_of_memory_halves_the_batch_and_goes_on(tiny_pytorch, clips):
    crowded = Crowded(tiny_pytorch.network.backbone, room=2)
    loaded = with_backbone(tiny_pytorch, crowded)
    expected = offline.predict(tiny_pytorch, clips)
    for got, want in zip(offline.predict(loaded, clips, batch_s=1000), expected, strict=True):
        np.testing.assert_allclose(got.logits, want.logits, atol=1e-5)
    assert crowded.largest == 2


def test_out_of_memory_for_one_window_says_so(tiny_pytorch, clips):
    loaded = with_backbone(tiny_pytorch, Crowded(tiny_pytorch.network.backbone, room=0))
    with pytest.raises(OutOfMemory) as caught:
        offline.predict(loaded, clips)
    assert caught.value.facts["device"] == "cpu"


def test_other_errors_are_not_taken_for_out_of_memory(tiny_pytorch):
    class Broken(Crowded):
        def forward(self, waves, n_samples):
            raise RuntimeError("a bug")

    loaded = with_backbone(tiny_pytorch, Broken(tiny_pytorch.network.backbone, 0))
    with pytest.raises(RuntimeError, match="a bug"):
        offline.predict(loaded, [speechlike(1)])


def test_bf16_stays_near_fp32(tiny_dir, tiny, clips):
    from emotion2vec_ui.models.files import resolve
    from emotion2vec_ui.models.loader import load
    from emotion2vec_ui.settings import Settings

    settings = Settings(model=str(tiny_dir), device="cpu", precision="bf16")
    half = load(resolve(settings), settings)
    for got, want in zip(
        offline.predict(half, clips, batch_s=1000), offline.predict(tiny, clips), strict=True
    ):
        np.testing.assert_allclose(got.scores, want.scores, atol=2e-2)


def test_an_hour_of_features_lies_in_a_file():
    buffer = engine._buffer((180_000, 1024))
    assert isinstance(buffer, np.memmap) and buffer.filename is None  # unlinked: gone with it
