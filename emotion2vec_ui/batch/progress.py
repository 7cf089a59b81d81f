"""How far a run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from emotion2vec_ui import texts

if TYPE_CHECKING:
    from emotion2vec_ui.batch.run import Progress

log = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
"""In a log: two lines a minute."""


@contextlib.contextmanager
def shown(files: int, skipped: int, lang: str) -> Iterator[Callable[[Progress], None]]:
    """What to call after every file.

    Args:
        files: all of them.
        skipped: those that are done already.
        lang: of the words.
    """
    if sys.stderr.isatty():
        with _bar(files, skipped, lang) as show:
            yield show
    else:
        yield _lines(lang)


@contextlib.contextmanager
def _bar(files: int, skipped: int, lang: str) -> Iterator[Callable[[Progress], None]]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    form = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}"
    with (
        tqdm(total=files, initial=skipped, bar_format=form, dynamic_ncols=True) as bar,
        logging_redirect_tqdm(),
    ):

        def show(progress: Progress) -> None:
            bar.set_postfix_str(_words(progress, lang), refresh=False)
            bar.update()

        yield show


def _lines(lang: str) -> Callable[[Progress], None]:
    due_s = time.monotonic() + LINE_EVERY_S

    def show(progress: Progress) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + LINE_EVERY_S
            done = progress.skipped + progress.done
            log.info("%d / %d, %s", done, progress.files, _words(progress, lang))

    return show


def _words(progress: Progress, lang: str) -> str:
    """Hours, speed, time left, failures."""
    eta_s = progress.eta_s
    parts = [
        texts.text("batch.progress.audio", lang, hours=progress.audio_s / 3600),
        texts.text("batch.progress.speed", lang, speed=progress.speed),
    ]
    if eta_s is not None:
        parts.append(texts.text("batch.progress.left", lang, time=duration(eta_s)))
    if progress.failed:
        parts.append(texts.text("batch.progress.failed", lang, count=progress.failed))
    return texts.text("list.join", lang).join(parts)


def duration(seconds: float) -> str:
    """`0:45`, `12:03`, `26:40:00`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
