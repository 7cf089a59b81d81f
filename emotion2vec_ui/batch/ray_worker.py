"""What runs on the machines of a Ray cluster: files are read in tasks, recognised in actors.

Ray Data carries rows of bytes: each is one pickled object of ours, so that Arrow need not know it.
"""

from __future__ import annotations

import functools
import os
import pickle
import platform
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from emotion2vec_ui.audio.decoding import Decoder
from emotion2vec_ui.batch import remote
from emotion2vec_ui.batch.bulk import Answered, Bulk, terms, wait_for_model
from emotion2vec_ui.batch.journal import Terms
from emotion2vec_ui.batch.run import TASKS_PER_WORKER
from emotion2vec_ui.errors import ClusterError, EmotionError, as_known
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.describe import model_facts
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records.report import Model
from emotion2vec_ui.records.subclasses import Trained
from emotion2vec_ui.settings import Settings, prepare_torch
from emotion2vec_ui.texts import Phrase

if TYPE_CHECKING:
    from emotion2vec_ui.models.loader import Loaded

COLUMN = "pickled"


@dataclass(frozen=True)
class Order:
    """What a run asks of every machine.

    Attributes:
        settings: of the program.
        root: the folder or address that names are relative to.
        granularity: "utterance" or "frame".
        embedding: whether rows have theirs.
        trained: sets of sub-classes that rows have; machines need no copy of their folders.
    """

    settings: Settings
    root: str
    granularity: str
    embedding: bool
    trained: tuple[Trained, ...] = ()


def packed(objects: list[Any]) -> dict[str, list[bytes]]:
    """A batch of Ray Data."""
    return {COLUMN: [pickle.dumps(one, protocol=5) for one in objects]}


def unpacked(batch: dict[str, Any]) -> list[Any]:
    """What `packed` packed."""
    return [pickle.loads(one) for one in batch[COLUMN]]


def read_files(batch: dict[str, Any], order: Order) -> dict[str, list[bytes]]:
    """A task: lists of files in, lists of what was read out."""
    decode = _decoder(order.settings.max_duration_s)
    return packed(
        [[remote.read(order.root, todo, decode) for todo in files] for files in unpacked(batch)]
    )


@functools.cache
def _decoder(max_duration_s: float) -> Decoder:
    """One for all tasks of a process: a file that crashes a codec does not take the task along."""
    return Decoder(max_duration_s, workers=1, tasks_per_worker=TASKS_PER_WORKER)


def probe(order: Order) -> tuple[Terms, Model] | EmotionError:
    """What the model of one machine is; an error is returned, for Ray would wrap it."""
    try:
        _, loaded = _loaded(order)
        return _terms(order, loaded), model_facts(loaded)
    except EmotionError as error:
        return error


class Worker:
    """An actor: lists of what was read in, lists of rows out, or an error that ends the run.

    Args:
        order: what is asked.
        agreed: the terms of all rows.
    """

    def __init__(self, order: Order, agreed: Terms) -> None:
        self._agreed = agreed
        self._trained = order.trained
        self._failure: EmotionError | None = None
        try:
            self._recogniser, self._model = _loaded(order)
            self._agree(_terms(order, self._model))
        except EmotionError as error:  # raised here, Ray would start actors without end
            self._failure = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Recognises one batch."""
        if self._failure is not None:
            return packed([self._failure])
        try:
            return packed([self._rows(reads) for reads in unpacked(batch)])
        except Exception as error:
            return packed([as_known(error, "batch")])

    def _rows(self, reads: list[Any]) -> list[Answered]:
        bulk = Bulk(
            self._recogniser, self._model, self._agreed, agree=self._agree, trained=self._trained
        )
        answered = bulk.submit(reads)
        while bulk.chunks:
            answered += bulk.answers()
        return answered

    def _agree(self, found: Terms) -> None:
        """Raises ClusterError where this machine has another model than the others."""
        for field in fields(Terms):
            ours, theirs = getattr(found, field.name), getattr(self._agreed, field.name)
            if ours != theirs:
                problem = Phrase(
                    "cluster.other_terms",
                    node=platform.node(),
                    what=Phrase(f"batch.terms.{field.name}"),
                    found=str(ours)[:12],
                    wanted=str(theirs)[:12],
                )
                raise ClusterError(problem=problem)


def _loaded(order: Order) -> tuple[Recogniser, Loaded]:
    # Ray sets it to 1 for an actor that is given less than a core; the model may use all.
    os.environ.pop("OMP_NUM_THREADS", None)
    prepare_torch()
    from emotion2vec_ui.audio.load import load

    holder = ModelHolder(order.settings)
    holder.start()
    loaded = wait_for_model(holder, lambda: False)
    return Recogniser(order.settings, holder, lambda path, name: load(path, name=name)), loaded


def _terms(order: Order, loaded: Loaded) -> Terms:
    return terms(
        order.root,
        loaded,
        granularity=order.granularity,
        embedding=order.embedding,
        trained=order.trained,
    )
