"""Figures for Prometheus: one registry per server, none at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.pipeline.recogniser import Recogniser

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 300, 900)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
STATES = ("idle", "importing", "downloading", "loading", "ready", "failed")


class Metrics:
    """What `/metrics` shows; names end in their unit, as Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # resident memory, file descriptors, CPU time
        self.requests = Counter(
            "emotion2vec_requests",
            "Recognitions asked for, by where and how they ended",
            ["front", "status"],
            registry=self.registry,
        )
        self.errors = Counter(
            "emotion2vec_errors",
            "Failed recognitions by error code",
            ["code"],
            registry=self.registry,
        )
        self.latency_s = Histogram(
            "emotion2vec_request_seconds",
            "From accepted to answered",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.audio_s = Counter(
            "emotion2vec_audio_seconds", "Audio recognised", registry=self.registry
        )
        self.batch_windows = Histogram(
            "emotion2vec_batch_windows",
            "Windows that went through the model together",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.forward_s = Counter(
            "emotion2vec_forward_seconds", "Time in the model", registry=self.registry
        )
        self._inside = Gauge(
            "emotion2vec_requests_inside", "Accepted and not yet answered", registry=self.registry
        )
        self._waiting = Gauge(
            "emotion2vec_queue_recordings", "Waiting for or in the model", registry=self.registry
        )
        self._state = Gauge(
            "emotion2vec_model_state",
            "1 for the state the model is in",
            ["state"],
            registry=self.registry,
        )

    def observe_batch(self, windows: int, padded_s: float, taken_s: float) -> None:
        """Called by the batcher after each forward pass."""
        self.batch_windows.observe(windows)
        self.forward_s.inc(taken_s)

    def text(self, recogniser: Recogniser, holder: ModelHolder) -> bytes:
        """The exposition format, gauges read now."""
        self._inside.set(recogniser.inside)
        self._waiting.set(recogniser.batcher.waiting)
        state = holder.status().state
        for name in STATES:
            self._state.labels(name).set(name == state)
        return generate_latest(self.registry)
