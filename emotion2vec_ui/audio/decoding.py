"""Decodes in separate processes, so that a file which crashes a codec fails only its own request.

libsndfile and FFmpeg are C code that reads untrusted files. After a crash or a hang the worker is
replaced, and the request gets an error. Decoding and judging also do not take time from the Python
threads that answer HTTP.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from emotion2vec_ui.audio.load import Clip, load, shown_name
from emotion2vec_ui.errors import AudioDecodeError, AudioUnreadable, ShuttingDown

WORKERS = 2
NICENESS = 5
"""Decoding gets about a quarter of a core while the model uses all of them."""

TASKS_PER_WORKER = 500
"""A worker is replaced after this many files, which bounds what a codec's leaks add up to."""

TIMEOUT_BASE_S = 8.0
TIMEOUT_PER_MB_S = 25.0
"""Chosen: ten times the measured time for an hour of 16 kbit/s Opus (7 MB), the slowest per byte,
on two cores; a damaged file of a few kB is given up after 8 s."""

TIMEOUT_MAX_S = 600.0
"""A codec that hangs in the largest upload blocks its worker no longer than this."""

STOPPED_RETRY_AFTER_S = 10
"""`Retry-After` for a file that was still being decoded when the server stopped."""


class Decoder:
    """A pool of processes that run `audio.load`.

    Args:
        max_duration_s: Longest recording accepted.
        workers: Number of processes.
        tasks_per_worker: Files after which a process is replaced.
    """

    def __init__(
        self,
        max_duration_s: float,
        *,
        workers: int = WORKERS,
        tasks_per_worker: int = TASKS_PER_WORKER,
    ) -> None:
        self._max_duration_s = max_duration_s
        self._workers = workers
        self._lock = threading.Lock()
        self._running: set[ProcessFuture[Clip]] = set()
        self._stopped = False
        # Not fork: this process has threads, and a model that the workers must not copy.
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=tasks_per_worker,
            context=multiprocessing.get_context("spawn"),
            initializer=lower_priority,
        )

    def __call__(self, path: Path, name: str) -> Clip:
        """Runs `audio.load` on `path` in a worker and returns its clip.

        Raises:
            AudioDecodeError: Also when the worker crashed or took too long.
            AudioUnreadable: There is no such file.
            InputError: Whatever `audio.load` raised.
            ShuttingDown: `stop` was called before it was done.
        """
        try:
            megabytes = path.stat().st_size / 1e6
        except OSError as error:
            problem = error.strerror or "I/O error"
            raise AudioUnreadable(name=shown_name(name), problem=problem) from None
        timeout_s = min(TIMEOUT_BASE_S + TIMEOUT_PER_MB_S * megabytes, TIMEOUT_MAX_S)
        with self._lock:
            if self._stopped:
                raise ShuttingDown(retry_after_s=STOPPED_RETRY_AFTER_S)
            future = self._pool.schedule(
                load,
                args=(path,),
                kwargs={"name": name, "max_duration_s": self._max_duration_s},
                timeout=timeout_s,
            )
            self._running.add(future)
        try:
            return future.result()
        except CancelledError:
            raise ShuttingDown(retry_after_s=STOPPED_RETRY_AFTER_S) from None
        except FutureTimeoutError:
            reason = f"decoding did not end within {timeout_s:.0f} s"
        except ProcessExpired:
            reason = "the decoder crashed on it"
        finally:
            with self._lock:
                self._running.discard(future)
        raise AudioDecodeError(name=shown_name(name), reasons=reason)

    def warm_up(self) -> None:
        """Starts the workers and their imports now instead of with the first request."""
        for _ in range(self._workers):
            self._pool.schedule(_nothing)

    def stop(self) -> None:
        """Ends the workers at once, also while they decode; their callers get `ShuttingDown`."""
        with self._lock:
            self._stopped = True
            # The pool's own `stop` leaves some of these futures without a result for ever.
            for future in self._running:
                future.cancel()
        self._pool.stop()
        self._pool.join()


def lower_priority() -> None:
    """Gives the model's process precedence: all requests wait for it, and it uses every core."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)


def _nothing() -> None:
    """Does nothing; running it starts a worker."""
