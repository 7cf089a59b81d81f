"""The part of the lab's page about sub-classes: the sets, a set's card, and training.

What is shown is drawn here. The scripts tell what was pressed and collect the samples;
`assets/subclass_training.js` sends them to the API, which trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from emotion2vec_ui.drawing import status_view, subclass_view
from emotion2vec_ui.drawing.render import View, draw
from emotion2vec_ui.drawing.subclass_view import KeptSet
from emotion2vec_ui.errors import EmotionError, as_known
from emotion2vec_ui.lab import samples
from emotion2vec_ui.page.events import connect
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records import subclasses
from emotion2vec_ui.texts import Phrase

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Opened:
    """The card that is shown.

    Attributes:
        name: of the set.
        version: None for the one that is used.
    """

    name: str
    version: int | None = None


class SubclassSection:
    """The sets and the form, laid out where it is made.

    Args:
        blocks: the page.
        recogniser: whose model answers, and in whose outputs the sets are.
    """

    def __init__(self, blocks: gr.Blocks, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._outputs = recogniser.settings.outputs
        sets = gr.HTML(elem_id="subclass-sets", js_on_load=_script("subclass_sets.js"))
        form = subclass_view.SubclassTrainingView(
            enough_samples=samples.ENOUGH_SAMPLES,
            enough_speakers=samples.ENOUGH_SPEAKERS,
            fewest_samples=samples.FEWEST_SAMPLES,
            fewest_speakers=samples.FEWEST_SPEAKERS,
        )
        gr.HTML(
            draw(form),
            elem_id="subclass-training",
            js_on_load=_script("subclass_training.js"),
        )
        opened = gr.State(None)
        queue = not recogniser.settings.no_gradio_queue
        connect(blocks.load, self._list, None, sets, queue=queue)
        connect(sets.click, self._clicked, [opened], [sets, opened], queue=queue)

    # --- handlers ---

    def _clicked(self, event: gr.EventData, opened: Opened | None) -> tuple[str, Opened | None]:
        """Opens and closes cards, shows and chooses versions, removes."""
        action, value = str(event.action), str(event.value)
        said, failure = None, None
        try:
            opened, said = self._done(action, value, opened)
        except Exception as error:
            opened, failure = None, _failure(error)
        return self._list(opened, said, failure), opened

    def _done(
        self, action: str, value: str, opened: Opened | None
    ) -> tuple[Opened | None, Phrase | None]:
        """What is open after an action, and what is to be said of it."""
        if action in ("open", "trained"):
            card = subclasses.card(self._outputs, value)
            facts = {"name": card.name, "version": card.version}
            said = Phrase("subclass.page.trained_now", **facts) if action == "trained" else None
            return Opened(value), said
        if action == "remove":
            removed = subclasses.remove(self._outputs, value)
            return None, _removed(value, removed)
        if action == "list":
            return opened, None
        if opened is None or action not in ("version", "use", "remove_version"):
            return None, None
        name, version = opened.name, int(value)
        if action == "use":
            subclasses.make_current(self._outputs, name, version)
            return Opened(name), Phrase("subclass.in_use", name=name, version=version)
        if action == "remove_version":
            removed = subclasses.remove(self._outputs, name, version)
            return Opened(name), _removed(name, removed)
        return Opened(name, version), None

    def _list(
        self,
        opened: Opened | None = None,
        said: Phrase | None = None,
        failure: View | None = None,
    ) -> str:
        try:
            card = None
            if opened is not None:
                card = subclasses.card(self._outputs, opened.name, opened.version)
            sets, damaged = self._sets()
            view = subclass_view.subclass_list(
                sets, damaged, opened=card, said=said, failure=failure
            )
            return draw(view)
        except Exception as error:
            return draw(_failure(error))

    def _sets(self) -> tuple[list[KeptSet], dict[str, EmotionError]]:
        answering = self._recogniser.holder.current
        sets, damaged = [], {}
        for name in subclasses.names(self._outputs):
            try:
                card = subclasses.card(self._outputs, name)
            except EmotionError as error:
                damaged[name] = error
                continue
            usable = None
            if answering is not None:
                usable = answering.weights_sha256 == card.weights_sha256
            sets.append(KeptSet(card, tuple(subclasses.versions(self._outputs, name)), usable))
        return sets, damaged


def _removed(name: str, versions: list[int]) -> Phrase:
    return Phrase("subclass.removed", name=name, versions=", ".join(map(str, versions)))


def _failure(error: Exception) -> View:
    return status_view.failure(as_known(error, "the sub-classes of the lab's page"))


def _script(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
