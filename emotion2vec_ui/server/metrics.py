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

from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.pipeline.observer import Ended
from emotion2vec_ui.pipeline.recogniser import Cancelled

if TYPE_CHECKING:
    from emotion2vec_ui.models.holder import ModelHolder
    from emotion2vec_ui.pipeline.recogniser import Recogniser

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 300, 900)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
STATES = ("idle", "importing", "downloading", "loading", "quantising", "ready", "failed")

CLIENT_GONE_STATUS = 499
"""nginx's number for a caller that closed the connection."""


class Metrics:
    """What `/metrics` shows; names end in their unit, as Prometheus asks.

    It is the recogniser's `Observer`: each front end counts under its own label.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # resident memory, file descriptors, CPU time
        self._requests = Counter(
            "emotion2vec_requests",
            "Recognitions and robustness tests, by front end, kind and how they ended",
            ["front", "kind", "status"],
            registry=self.registry,
        )
        self._errors = Counter(
            "emotion2vec_errors",
            "Failed recognitions and robustness tests, by front end and error code",
            ["front", "code"],
            registry=self.registry,
        )
        self._latency_s = Histogram(
            "emotion2vec_request_seconds",
            "From accepted to answered, of those that were answered",
            ["front", "kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._audio_s = Counter(
            "emotion2vec_audio_seconds", "Audio recognised", ["front"], registry=self.registry
        )
        self._batch_windows = Histogram(
            "emotion2vec_batch_windows",
            "Windows that went through the model together",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._forward_s = Counter(
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

    def batch_done(self, windows: int, padded_s: float, taken_s: float) -> None:
        """Counts one forward pass."""
        self._batch_windows.observe(windows)
        self._forward_s.inc(taken_s)

    def request_ended(self, ended: Ended) -> None:
        """Counts one request."""
        error = ended.error
        status, code = 500, EmotionError.code
        if error is None:
            status = 200
            self._latency_s.labels(ended.front, ended.kind).observe(ended.taken_s)
            self._audio_s.labels(ended.front).inc(ended.audio_s)
        elif isinstance(error, Cancelled):
            status = CLIENT_GONE_STATUS
        elif isinstance(error, EmotionError):
            status, code = error.status, error.code
        self._requests.labels(ended.front, ended.kind, str(status)).inc()
        if status not in (200, CLIENT_GONE_STATUS):
            self._errors.labels(ended.front, code).inc()

    def text(self, recogniser: Recogniser, holder: ModelHolder) -> bytes:
        """The exposition format, gauges read now."""
        self._inside.set(recogniser.inside)
        self._waiting.set(recogniser.batcher.waiting)
        state = holder.status().state
        for name in STATES:
            self._state.labels(name).set(name == state)
        return generate_latest(self.registry)
