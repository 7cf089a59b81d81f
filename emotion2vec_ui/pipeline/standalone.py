"""A recogniser for one command: it decodes in this process and loads the model once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui.settings import Settings

if TYPE_CHECKING:
    from emotion2vec_ui.pipeline.recogniser import Recogniser


@contextlib.contextmanager
def recogniser(settings: Settings, paths: Sequence[Path] = ()) -> Iterator[Recogniser]:
    """Starts loading the model; stops everything at the end.

    Args:
        settings: of the program.
        paths: files that it will be asked for, in this order; each is decoded while the model is
            loaded or busy with the one before.
    """
    from emotion2vec_ui.models.holder import ModelHolder

    # Before the rest is imported: loading takes longest, and much of it is not Python.
    holder = ModelHolder(settings)
    holder.start()

    from emotion2vec_ui.audio.prefetching import Prefetcher
    from emotion2vec_ui.pipeline.recogniser import Recogniser

    decode = Prefetcher(paths, settings.max_duration_s)
    made = Recogniser(settings, holder, decode)
    try:
        yield made
    finally:
        decode.stop()
        made.stop(timeout_s=1.0)
