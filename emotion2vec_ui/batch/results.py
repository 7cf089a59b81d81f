"""Keeps the recordings of a job as results of their own, as one recognition does, and each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emotion2vec_ui.audio.load import Clip
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import store
from emotion2vec_ui.records.report import Report
from emotion2vec_ui.records.sentences import in_words

if TYPE_CHECKING:
    from emotion2vec_ui.models.engine import Prediction


class Results:
    """The results of one job.

    A result is saved before its row is. Its folder says which recording of which job it is: one
    whose row was not written (a killed server, a full disk) is found by that and not made twice.

    Args:
        recogniser: that saves them.
        job_id: of the job.
        lang: of the sentences in them.
        begun_before: whether there may be some already.
    """

    def __init__(
        self, recogniser: Recogniser, job_id: str, lang: str, *, begun_before: bool
    ) -> None:
        self._recogniser = recogniser
        self._lang = lang
        self._prefix = f"{job_id}/"
        outputs = recogniser.settings.outputs
        self._there = store.origins(outputs, self._prefix) if begun_before else {}

    def save(self, name: str, report: Report, clip: Clip, prediction: Prediction) -> str:
        """Keeps one recording; returns the name of its folder.

        Args:
            name: of the recording in the job.
            report: without sentences.
            clip: what the model heard.
            prediction: what it said.

        Raises:
            DiskFull, OutputError: it cannot be written, and nothing is left behind.
        """
        if name in self._there:
            return self._there[name]
        told = in_words(report, self._lang)
        saved = self._recogniser.save(told, clip, prediction, origin=self._prefix + name)
        return saved.folder.name
