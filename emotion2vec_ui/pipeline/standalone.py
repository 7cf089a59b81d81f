"""A recogniser for one command: it decodes in this process and loads the model once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from emotion2vec_ui.audio.load import Clip, load
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.settings import Settings


@contextlib.contextmanager
def recogniser(settings: Settings) -> Iterator[Recogniser]:
    """Starts loading the model; stops everything at the end."""

    def decode(path: Path, name: str) -> Clip:
        return load(path, name=name, max_duration_s=settings.max_duration_s)

    holder = ModelHolder(settings)
    made = Recogniser(settings, holder, decode)
    holder.start()
    try:
        yield made
    finally:
        made.stop(timeout_s=1.0)
