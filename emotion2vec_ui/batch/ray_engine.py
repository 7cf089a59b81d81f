"""`batch --engine ray`: the same run on the machines of a Ray cluster, by Ray Data.

This process lists the files, keeps the rows in its journal and writes the table. Files are read in
tasks and recognised in a pool of actors (`ray_worker`). A machine that is lost is Ray's to notice:
what was on its way there is done again elsewhere, and a path has one row whatever comes twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from emotion2vec_ui.batch import session
from emotion2vec_ui.batch.ahead import BYTES_PER_S
from emotion2vec_ui.batch.journal import Amount, Journal, Terms, Todo
from emotion2vec_ui.batch.ray_worker import Order, Worker, packed, probe, read_files, unpacked
from emotion2vec_ui.batch.remote import first_line
from emotion2vec_ui.batch.run import Keeping, Progress
from emotion2vec_ui.errors import ClusterError, EmotionError, PackageMissing
from emotion2vec_ui.pipeline.recogniser import Cancelled
from emotion2vec_ui.records.report import Model
from emotion2vec_ui.settings import ROOT_DIR
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from ray.data import Dataset

log = logging.getLogger(__name__)

PART_FILES = 64
PART_S = (60.0, 300.0)
"""Audio that is read by one task and recognised by one call: the least, and the most, where there
is so much to do that ten thousand parts of the least do not hold it."""

PARTS = 10_000
"""In one pass of Ray Data, which has all of its input in memory and starts the actors anew."""

READ_CPUS = 0.5
MODEL_CPUS = 0.25
"""What is asked of Ray for one reader and one model. Reading has a lower priority than the model,
so that both may count on all cores; and two models that come to share a machine of one core, when
another machine is lost, leave room for a reader."""

POLL_S = 0.2
QUEUED = 4
"""Parts that wait to be written to the journal."""


def check_available() -> None:
    """Told before hours of work, not after.

    Raises:
        PackageMissing: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise PackageMissing(
            package="ray", install="-r requirements-ray.txt", purpose="--engine ray"
        ) from error


def work_through(
    order: Order,
    journal: Journal,
    everything: Amount,
    todo: Amount,
    *,
    address: str | None,
    workers: int | None,
    lang: str,
    cancelled: Callable[[], bool],
) -> tuple[Model, Terms, Progress]:
    """Recognises the files listed in the journal that have no row, and shows how far it is.

    Args:
        order: what is asked of every machine.
        journal: with the files listed.
        everything: of the files.
        todo: of them without a row.
        address: of a cluster; None starts one on this machine.
        workers: models in all; None for one on each GPU, or on each machine without any.
        lang: of messages.
        cancelled: asked now and then whether to stop.

    Raises:
        Cancelled: `cancelled` said so; the rows that are done are kept.
        ClusterError: the cluster cannot be reached or used.
        EmotionError: the run cannot begin or go on; rows that are done are kept.
    """
    with _connected(address):
        size, resources = _pool(order, workers)
        agreed, model = _probed(order, resources, cancelled)
        with session.begun(journal, agreed, everything, todo, lang) as show:
            keeping = Keeping(journal, everything, todo, on_progress=show)
            parts = _parts(journal.todo(), todo.bytes)
            while some := list(islice(parts, PARTS)):
                for answered in _answers(_dataset(some, order, agreed, size, resources), cancelled):
                    keeping.keep(answered)
    return model, agreed, keeping.progress()


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Ray, started here or joined; left at the end, with all that it runs for us."""
    import ray
    from ray.data import DataContext

    package = str(ROOT_DIR / "emotion2vec_ui")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            here = {"env_vars": {"PYTHONPATH": str(ROOT_DIR)}}
            ray.init(address="local", include_dashboard=False, runtime_env=here, **common)
        else:
            ray.init(address=address, runtime_env={"py_modules": [package]}, **common)
    except (ConnectionError, RuntimeError, ValueError) as error:
        problem = Phrase(
            "cluster.unreachable", address=address or "local", detail=first_line(error)
        )
        raise ClusterError(problem=problem) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray puts its own there
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        # Ray prints there what its machines report; what is printed there is ours alone.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _pool(order: Order, workers: int | None) -> tuple[int, dict[str, float]]:
    """How many models there will be, and what each is given."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(one.get("GPU", 0)) for one in machines)
    if gpus and order.settings.device != "cpu":
        return workers or gpus, {"num_cpus": MODEL_CPUS, "num_gpus": 1}
    return workers or max(1, sum("CPU" in one for one in machines)), {"num_cpus": MODEL_CPUS}


def _probed(
    order: Order, resources: dict[str, float], cancelled: Callable[[], bool]
) -> tuple[Terms, Model]:
    """The terms by which every actor is judged, from a machine that runs the model.

    Raises:
        Cancelled: `cancelled` said so.
        ClusterError: the machine was lost.
        EmotionError: it has no model.
    """
    import ray

    asked = ray.remote(probe).options(**resources).remote(order)
    while not ray.wait([asked], timeout=POLL_S)[0]:
        if cancelled():
            raise Cancelled
    try:
        found = ray.get(asked)
    except ray.exceptions.RayError as error:
        raise _failed(error) from error
    if isinstance(found, EmotionError):
        raise found
    return found


def _parts(todo: Iterator[Todo], todo_bytes: int) -> Iterator[list[Todo]]:
    """Files for one task each."""
    least, most = (seconds * BYTES_PER_S for seconds in PART_S)
    part_bytes = min(max(least, todo_bytes / PARTS), most)
    part: list[Todo] = []
    held = 0
    for one in todo:
        part.append(one)
        held += max(one.file.bytes, 0)
        if held >= part_bytes or len(part) == PART_FILES:
            yield part
            part, held = [], 0
    if part:
        yield part


def _dataset(
    parts: list[list[Todo]], order: Order, agreed: Terms, size: int, resources: dict[str, float]
) -> Dataset:
    """Reads and recognises; nothing happens until it is iterated over."""
    import pyarrow as pa
    import ray

    # A table for each part: one task has one.
    files = ray.data.from_arrow([pa.table(packed([part])) for part in parts])
    read = files.map_batches(
        read_files, batch_size=1, num_cpus=READ_CPUS, fn_kwargs={"order": order}
    )
    return read.map_batches(
        Worker,
        batch_size=1,
        concurrency=size,
        fn_constructor_kwargs={"order": order, "agreed": agreed},
        **resources,
    )


def _answers(dataset: Dataset, cancelled: Callable[[], bool]) -> Iterator[Any]:
    """Lists of `Answered` as they come, in no order.

    Raises:
        Cancelled: `cancelled` said so.
        ClusterError: Ray cannot go on.
        EmotionError: an actor cannot.
    """
    came: queue.Queue[Any] = queue.Queue(QUEUED)

    def iterate() -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
                for one in unpacked(batch):
                    came.put(one)
            came.put(None)
        except Exception as error:
            came.put(_failed(error))

    # In a thread: Ray waits for as long as it takes, and Ctrl-C does not.
    threading.Thread(target=iterate, name="ray-data", daemon=True).start()
    while not cancelled():
        try:
            one = came.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if one is None:
            return
        if isinstance(one, EmotionError):
            raise one
        yield one
    raise Cancelled


def _failed(error: Exception) -> ClusterError:
    log.debug("Ray failed", exc_info=error)
    return ClusterError(problem=Phrase("cluster.failed", detail=first_line(error)))
