"""One model, many callers: same answers, priorities, fair turns, cancelling, stopping."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from benchmarks import offline
from benchmarks.synthetic_audio import speechlike
from emotion2vec_ui.errors import ShuttingDown
from emotion2vec_ui.models import engine
from emotion2vec_ui.models.batching import Batcher, Priority
from tests.networks import with_backbone


class Recorder(torch.nn.Module):
    """The real backbone, which notes what went through it and can be held back."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.proj = backbone.proj
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, waves, n_samples):
        self.gate.wait(10)
        n = [waves.shape[1]] * len(waves) if n_samples is None else n_samples.tolist()
        self.batches.append(n)
        return self.backbone(waves, n_samples)


@pytest.fixture
def recorded(tiny_pytorch):
    recorder = Recorder(tiny_pytorch.network.backbone)
    return with_backbone(tiny_pytorch, recorder), recorder


@pytest.fixture
def batcher():
    batcher = Batcher()
    yield batcher
    batcher.stop(10)


def test_32_callers_get_what_each_would_get_alone(tiny, batcher):
    clips = [speechlike(0.1 + 0.13 * i, seed=i) for i in range(32)]
    jobs = [batcher.submit(tiny, clip) for clip in clips]
    for job, clip in zip(jobs, clips, strict=True):
        expected = offline.predict(tiny, [clip])[0]
        np.testing.assert_allclose(job.future.result(60).logits, expected.logits, atol=1e-5)
        assert job.inference_s > 0


def test_a_gpu_would_get_batches(recorded, batcher, monkeypatch):
    monkeypatch.setattr(engine, "CPU_BATCH_S", 20.0)  # as on a device that gains from batches
    loaded, recorder = recorded
    recorder.gate.clear()
    jobs = [batcher.submit(loaded, speechlike(2, seed=i)) for i in range(12)]
    recorder.gate.set()
    for job in jobs:
        job.future.result(60)
    sizes = [len(batch) for batch in recorder.batches]
    assert max(sizes) > 4 and sum(sizes) == 12
    assert all(len(batch) * max(batch) <= 20 * 16000 for batch in recorder.batches)


def test_a_short_recording_does_not_wait_for_a_long_one(recorded, batcher):
    loaded, recorder = recorded
    recorder.gate.clear()
    long = batcher.submit(loaded, np.tile(speechlike(10), 30))
    short = batcher.submit(loaded, speechlike(1))
    recorder.gate.set()
    short.future.result(60)
    # The short one was served within the first turns, not after 11 windows of the long one.
    windows_before = next(i for i, batch in enumerate(recorder.batches) if batch[0] == 16000)
    assert windows_before <= 2 and not long.future.done()
    long.future.result(120)


def test_an_interactive_job_goes_before_500_bulk_jobs(tiny):
    batches: list[int] = []
    tenth, go_on = threading.Event(), threading.Event()

    def observe(windows: int, padded_s: float, taken_s: float) -> None:
        batches.append(windows)
        if len(batches) == 10:
            tenth.set()
            go_on.wait(60)

    batcher = Batcher(observe=observe)
    clip = speechlike(0.1)
    bulk = [batcher.submit(tiny, clip, priority=Priority.BULK) for _ in range(500)]
    assert tenth.wait(60)
    answered_after: list[int] = []
    job = batcher.submit(tiny, clip)
    job.future.add_done_callback(lambda _: answered_after.append(len(batches)))
    go_on.set()
    job.future.result(60)
    assert answered_after == [11]  # the tenth was running; the next one is the interactive job's
    batcher.stop(60)
    assert all(job.future.result(0).n_frames == 4 for job in bulk)
    assert len(batches) == 501


def test_no_batch_has_both_priorities(recorded, batcher, monkeypatch):
    monkeypatch.setattr(engine, "CPU_BATCH_S", 20.0)  # as on a device that gains from batches
    loaded, recorder = recorded
    recorder.gate.clear()
    for i in range(12):
        bulk = i % 2 == 0
        priority = Priority.BULK if bulk else Priority.INTERACTIVE
        last = batcher.submit(loaded, speechlike(2 if bulk else 1, seed=i), priority=priority)
    recorder.gate.set()
    batcher.stop(60)
    assert last.future.done()
    # A first batch may hold what was there when it began; after that all six, then all others.
    assert all(len(set(batch)) == 1 for batch in recorder.batches)
    lengths = [batch[0] for batch in recorder.batches[1:]]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("priority", Priority)
def test_callers_take_turns_however_many_jobs_each_has(recorded, batcher, priority):
    loaded, recorder = recorded
    many, few = object(), object()
    recorder.gate.clear()
    long = [(1.0 + 0.02 * i) for i in range(20)]
    jobs = [
        batcher.submit(loaded, speechlike(seconds), priority=priority, group=many)
        for seconds in long
    ]
    jobs += [
        batcher.submit(loaded, speechlike(seconds), priority=priority, group=few)
        for seconds in (0.3, 0.4, 0.5)
    ]
    recorder.gate.set()
    for job in jobs:
        job.future.result(60)
    order = [n / 16_000 for (n,) in recorder.batches]
    # A caller's own jobs stay in order; the later caller has every other turn.
    assert [seconds for seconds in order if seconds >= 1] == pytest.approx(long)
    places = [order.index(seconds) for seconds in (0.3, 0.4, 0.5)]
    assert places[0] <= 2 and places[1] - places[0] == places[2] - places[1] == 2


def test_two_models_never_share_a_batch(tiny_pytorch, recorded, batcher, monkeypatch):
    monkeypatch.setattr(engine, "CPU_BATCH_S", 1000.0)
    loaded, recorder = recorded
    other_recorder = Recorder(tiny_pytorch.network.backbone)
    other = with_backbone(tiny_pytorch, other_recorder)
    recorder.gate.clear()
    jobs = [batcher.submit(loaded if i % 2 else other, speechlike(1, seed=i)) for i in range(10)]
    recorder.gate.set()
    for job in jobs:
        job.future.result(60)
    assert sum(map(len, recorder.batches)) == sum(map(len, other_recorder.batches)) == 5


def test_a_cancelled_recording_frees_its_place(recorded, batcher):
    loaded, recorder = recorded
    recorder.gate.clear()
    long = batcher.submit(loaded, np.tile(speechlike(10), 30))
    time.sleep(0.2)
    long.cancel()
    recorder.gate.set()
    batcher.submit(loaded, speechlike(1)).future.result(60)
    assert len(recorder.batches) <= 3 and batcher.waiting == 0


def test_progress_rises_to_one(tiny, batcher):
    shares: list[float] = []
    batcher.submit(tiny, speechlike(100), on_progress=shares.append).future.result(60)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert len(shares) == 6  # windows of at most 20 s that share 2 s


def test_a_failing_callback_ends_only_its_own_recording(tiny, batcher):
    def fail(share: float) -> None:
        raise RuntimeError("callback")

    broken = batcher.submit(tiny, speechlike(1), on_progress=fail)
    fine = batcher.submit(tiny, speechlike(1))
    with pytest.raises(RuntimeError, match="callback"):
        broken.future.result(60)
    assert fine.future.result(60).n_frames == 49


def test_an_error_of_the_model_reaches_the_caller_and_the_thread_lives(tiny_pytorch, batcher):
    class Broken(torch.nn.Module):
        proj = tiny_pytorch.network.backbone.proj

        def forward(self, waves, n_samples):
            raise RuntimeError("device lost")

    job = batcher.submit(with_backbone(tiny_pytorch, Broken()), speechlike(1))
    with pytest.raises(RuntimeError, match="device lost"):
        job.future.result(60)
    assert batcher.submit(tiny_pytorch, speechlike(1)).future.result(60).n_frames == 49


def test_weights_that_do_not_fit_on_the_gpu_fail_one_caller_and_the_thread_lives(tiny_pytorch):
    class Full(Recorder):
        """A GPU without room for the weights at first."""

        has_room = False

        def to(self, device):
            if not self.has_room:
                self.has_room = True
                raise RuntimeError("CUDA out of memory")
            return self

    loaded = with_backbone(tiny_pytorch, Full(tiny_pytorch.network.backbone), "cuda:0")
    batcher = Batcher(low_vram=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(loaded, speechlike(1)).future.result(60)
    assert batcher.submit(loaded, speechlike(1)).future.result(60).n_frames == 49
    batcher.stop(10)


def test_stopping_finishes_what_is_queued_and_takes_nothing_new(tiny):
    batcher = Batcher()
    jobs = [batcher.submit(tiny, speechlike(2, seed=i)) for i in range(8)]
    batcher.stop(60)
    assert all(job.future.result(0) for job in jobs)
    with pytest.raises(ShuttingDown):
        batcher.submit(tiny, speechlike(1))


def test_stopping_has_a_bound(recorded):
    loaded, recorder = recorded
    batcher = Batcher()
    recorder.gate.clear()
    jobs = [batcher.submit(loaded, speechlike(1)) for _ in range(3)]
    time.sleep(0.2)
    began = time.monotonic()
    batcher.stop(0.3)
    assert time.monotonic() - began < 2
    with pytest.raises(ShuttingDown):
        jobs[-1].future.result(1)
    recorder.gate.set()


def test_low_vram_takes_short_windows_one_at_a_time(recorded):
    loaded, recorder = recorded
    batcher = Batcher(low_vram=True)
    batcher.submit(loaded, speechlike(60)).future.result(60)
    batcher.stop(10)
    assert len(recorder.batches) >= 6
    assert all(
        len(batch) == 1 and batch[0] <= engine.LOW_VRAM_WINDOW_S * 16000
        for batch in recorder.batches
    )
