"""What we depend on inside Gradio beyond its documented interface.

Each function has a test that fails when an upgrade of Gradio changes what it relies on
(`tests/page/test_gradio_internals.py`); `assets/page.js` has one more, Gradio's `changeLocale`,
which the browser tests of the language switch cover.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.routes import App

from emotion2vec_ui.errors import BadField

QUEUE_POLL_S = 0.02
"""How long an event of the page may wait before Gradio sees it."""


@contextlib.contextmanager
def without_applications() -> Iterator[None]:
    """Has Gradio make no application while pages are built.

    It makes one at the end of each page and with the queue, 0.15 s each, and none of them is used:
    mounting makes its own, which is then given to `answer_by`.
    """
    create = App.create_app
    App.create_app = staticmethod(lambda *_, **__: None)
    try:
        yield
    finally:
        App.create_app = staticmethod(create)


def answer_by(blocks: gr.Blocks, app: App) -> None:
    """Has the queue run events in this application, as `launch` would."""
    blocks.app = app


def slow_down_queue(blocks: gr.Blocks) -> None:
    """Has Gradio look for events 50 times a second.

    By default it does so every millisecond, which takes 7 % of a core from an idle server.
    """
    blocks._queue.sleep_when_free = QUEUE_POLL_S
    blocks._queue.progress_update_sleep_when_free = QUEUE_POLL_S


def refuse_downloads(blocks: gr.Blocks) -> None:
    """Has Gradio take only uploaded files, and nothing from any address.

    It takes any path or address in an event for a file and reads or fetches it. Whether it may is
    asked only once `launch` was called, which mounting never does.
    """
    blocks.has_launched = True
    processing_utils.async_ssrf_protected_download = _no_download


async def _no_download(url: str, *args: Any, **kwargs: Any) -> str:
    raise BadField(field="path", value=repr(url)[:100], allowed="uploaded files")
