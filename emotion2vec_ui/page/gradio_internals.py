"""What we depend on inside Gradio beyond its documented interface.

Each function has a test that fails when an upgrade of Gradio changes what it relies on
(`tests/page/test_gradio_internals.py`); `assets/page.js` has one more, Gradio's `changeLocale`,
which the browser tests of the language switch cover.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio import processing_utils

from emotion2vec_ui.errors import BadField

QUEUE_POLL_S = 0.02
"""How long an event of the page may wait before Gradio sees it."""


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
