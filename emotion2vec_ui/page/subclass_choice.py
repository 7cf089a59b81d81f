"""The choice of sub-classes on the main page: the sets that the answering model can use."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.page.words import word
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import subclasses

log = logging.getLogger(__name__)


class SubclassChoice:
    """Boxes to tick; out of sight where there is no set for the model.

    Args:
        recogniser: whose model answers, and in whose outputs the sets are.

    Attributes:
        group: the component; its value is the names that are ticked.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self.group = gr.CheckboxGroup(
            [],
            label=word("ui.subclass"),
            info=word("ui.subclass.info"),
            visible=False,
            elem_id="subclass",
        )

    def renewed(self) -> Any:
        """The choice as it is now: sets come and go, and so do models."""
        loaded = self._recogniser.holder.current
        outputs = self._recogniser.settings.outputs
        choices = []
        for name in subclasses.names(outputs) if loaded is not None else []:
            try:
                card = subclasses.card(outputs, name)
            except EmotionError as error:
                log.warning("%s", error)
                continue
            if loaded is not None and card.weights_sha256 == loaded.weights_sha256:
                choices.append((f"{name}: {', '.join(card.classes)}", name))
        return gr.CheckboxGroup(choices, visible=bool(choices))
