"""Clusters, map and outliers of one outputs folder, computed once for all who ask.

With many recordings each takes minutes. One thread does one job after the other, the long parts in
a child process of low priority, so that the server answers meanwhile; who asks waits for a while,
and may ask again.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pebble import ProcessFuture, ProcessPool

from emotion2vec_ui.audio.decoding import lower_priority
from emotion2vec_ui.errors import ShuttingDown, StillComputing
from emotion2vec_ui.lab import clusters as clustering
from emotion2vec_ui.lab import layout, outliers
from emotion2vec_ui.lab.index import Space, check_enough, space
from emotion2vec_ui.lab.outliers import Outliers
from emotion2vec_ui.lab.reduction import reduced
from emotion2vec_ui.records.clusters import Clusters
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import Row
from emotion2vec_ui.settings import Settings

log = logging.getLogger(__name__)

KEPT = 6
"""Results kept in memory: a few methods and numbers of clusters of one set of recordings."""

POLL_S = 0.2
"""How often a child's progress is looked at."""

RETRY_AFTER_S = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Map:
    """The recordings of one model on the map.

    Attributes:
        model: id of the model.
        method: `layout.TSNE` or `layout.PCA`.
        rows: the recordings.
        places: float32 (n, 2), about -1 to 1.
    """

    model: str
    method: str
    rows: tuple[Row, ...]
    places: NDArray[np.float32]


class Task(Generic[T]):
    """Work that someone waits for.

    Attributes:
        share: done part, 0 to 1.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._outcome: Future[T] = Future()

    def wait(self, timeout_s: float) -> T:
        """What came of it; raises what was raised.

        Raises:
            StillComputing: that is not known within the time.
        """
        try:
            return self._outcome.result(timeout_s)
        except FutureTimeoutError:
            percent = int(100 * self.share)
            raise StillComputing(percent=percent, retry_after_s=RETRY_AFTER_S) from None

    @property
    def done(self) -> bool:
        """Whether `wait` returns or raises at once."""
        return self._outcome.done()

    @property
    def failed(self) -> bool:
        """Whether an error came of it."""
        return self.done and self._outcome.exception() is not None

    def run(self, work: Callable[[Callable[[float], None]], T]) -> None:
        """Does the work, and keeps what came of it."""
        try:
            self._outcome.set_result(work(self._on_progress))
        except BaseException as error:
            self._outcome.set_exception(error)

    def _on_progress(self, share: float) -> None:
        self.share = share


class Atlas:
    """What is known of one outputs folder. Threads share one.

    Args:
        history: of the results.
        settings: tell where models' measured ranges of norms are.
    """

    def __init__(self, history: History, settings: Settings) -> None:
        self._history = history
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lab")
        self._lock = threading.Lock()
        self._tasks: OrderedDict[tuple[Any, ...], Task[Any]] = OrderedDict()
        self._child: ProcessFuture[Any] | None = None
        self._stopped = False

    def clusters(
        self, model: str | None = None, *, method: str = clustering.KMEANS, k: str = clustering.AUTO
    ) -> Task[Clusters]:
        """The clusters of a model's recordings.

        Args:
            model: its id; None for the model with most embeddings.
            method: one of `clusters.METHODS`.
            k: number of clusters, or `clusters.AUTO`.

        Raises:
            BadField: method or k cannot be used.
            NoEmbeddings, TooFewEmbeddings: there is nothing to compute with.
        """
        number = clustering.check(method, k)
        found = space(self._history, model)
        check_enough(found, clustering.MIN_RECORDINGS)
        work = partial(self._find_clusters, found, method, number)
        return self._task("clusters", found, (method, number), work)

    def map(self, model: str | None = None) -> Task[Map]:
        """Where each of a model's recordings stands.

        Args:
            model: its id; None for the model with most embeddings.

        Raises:
            NoEmbeddings, TooFewEmbeddings: there is nothing to draw.
        """
        found = space(self._history, model)
        check_enough(found, layout.MIN_RECORDINGS)
        return self._task("map", found, (), partial(self._draw_map, found))

    def outliers(self, model: str | None = None) -> Task[Outliers]:
        """Which of a model's recordings stand apart.

        Args:
            model: its id; None for the model with most embeddings.

        Raises:
            NoEmbeddings, TooFewEmbeddings: there is nothing to compare.
        """
        found = space(self._history, model)
        check_enough(found, outliers.MIN_RECORDINGS)

        def work(on_progress: Callable[[float], None]) -> Outliers:
            return outliers.find(self._history, self._settings, model=found.model)

        return self._task("outliers", found, (), work)

    def stop(self) -> None:
        """Ends what runs; whoever waits gets an error."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.cancel()
        self._thread.shutdown(cancel_futures=True)

    # --- tasks ---

    def _task(
        self,
        what: str,
        found: Space,
        options: tuple[Any, ...],
        work: Callable[[Callable[[float], None]], T],
    ) -> Task[T]:
        """The task that does this, or did it for the same recordings."""
        key = (what, found.model, found.weights_sha256, options, _fingerprint(found.rows))
        with self._lock:
            if self._stopped:
                raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
            task = self._tasks.get(key)
            if task is None or task.failed:
                task = self._tasks[key] = Task()
                self._thread.submit(task.run, work)
            self._tasks.move_to_end(key)
            while len(self._tasks) > KEPT:
                self._tasks.popitem(last=False)
            return task

    def _find_clusters(
        self, found: Space, method: str, k: int | None, on_progress: Callable[[float], None]
    ) -> Clusters:
        points = reduced(found.vectors)
        labels = self._in_child(on_progress, clustering.find, points, method=method, k=k)
        return clustering.describe(found, points, labels, method)

    def _draw_map(self, found: Space, on_progress: Callable[[float], None]) -> Map:
        path = layout.file_of(self._history.outputs, found)
        folders = tuple(row.folder for row in found.rows)
        before = layout.read(path)
        known = layout.known_places(before, folders)
        places = known
        if np.isnan(known).any():
            points = reduced(found.vectors)
            places = self._in_child(on_progress, layout.place, points, known)
            now = layout.Layout(layout.method(), folders, places)
            try:
                layout.write(path, now)
            except OSError as error:
                # It is drawn anew after the next start.
                log.warning("the map cannot be kept: %s", error.strerror)
        return Map(found.model, layout.method(), found.rows, places)

    def _in_child(
        self,
        on_progress: Callable[[float], None],
        function: Callable[..., T],
        *args: Any,
        **kw: Any,
    ) -> T:
        """What the function gives, from a process of its own, which is gone afterwards."""
        # Not fork: this process has threads, and a model that the child must not copy.
        context = multiprocessing.get_context("spawn")
        share = context.Value("d", 0.0)
        pool = ProcessPool(1, context=context, initializer=_begin, initargs=(share,))
        try:
            with self._lock:
                if self._stopped:
                    raise ShuttingDown(retry_after_s=RETRY_AFTER_S)
                child = self._child = pool.schedule(_run, args=(function, args, kw))
            while True:
                try:
                    outcome: T = child.result(POLL_S)
                    return outcome
                except FutureTimeoutError:
                    on_progress(share.value)
        except CancelledError:
            raise ShuttingDown(retry_after_s=RETRY_AFTER_S) from None
        finally:
            self._child = None
            pool.stop()
            pool.join()


def _fingerprint(rows: Sequence[Row]) -> int:
    """Of which recordings these are, within this process."""
    return hash(tuple(row.folder for row in rows))


# --- in the child ---------------------------------------------------------------------------------

_share: Synchronized[float] | None = None
"""Where the parent reads how far the work is."""


def _begin(share: Synchronized[float]) -> None:
    global _share
    _share = share
    lower_priority()


def _run(function: Callable[..., T], args: tuple[Any, ...], kw: dict[str, Any]) -> T:
    def on_progress(share: float) -> None:
        assert _share is not None
        _share.value = share

    return function(*args, **kw, on_progress=on_progress)
