"""What we use inside Gradio is still there and still does what we use it for.

Everything runs inside an event loop: where there is none, Gradio makes loops and forgets them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from emotion2vec_ui.errors import BadField
from emotion2vec_ui.page.gradio_internals import (
    QUEUE_POLL_S,
    answer_by,
    refuse_downloads,
    slow_down_queue,
    without_applications,
)

gr = pytest.importorskip("gradio")


def pauses(monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> set[float]:
    """How long an idle queue sleeps between two looks for events, in s."""
    seen: set[float] = set()
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        seen.add(seconds)
        await sleep(seconds)

    async def look() -> None:
        with gr.Blocks() as blocks:
            gr.Textbox()
        blocks.queue()
        if slow:
            slow_down_queue(blocks)
            assert blocks._queue.progress_update_sleep_when_free == QUEUE_POLL_S
        task = asyncio.create_task(blocks._queue.start_processing())
        await sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", recorded)
        asyncio.run(look())
    return seen


def test_an_idle_queue_looks_fifty_times_a_second(monkeypatch):
    # Without our help it looks more often: else the function has become needless.
    assert max(pauses(monkeypatch, slow=False)) < QUEUE_POLL_S
    assert pauses(monkeypatch, slow=True) == {QUEUE_POLL_S}


def test_only_uploaded_files_are_taken_and_no_address(monkeypatch, tmp_path: Path):
    from gradio import processing_utils
    from gradio.context import LocalContext
    from gradio.exceptions import InvalidPathError

    # Put back at the end, for the tests that follow.
    download = processing_utils.async_ssrf_protected_download
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", download)
    private = tmp_path / "private.wav"
    private.write_bytes(b"secret")
    given = {"path": str(private), "meta": {"_type": "gradio.FileData"}}

    async def take() -> None:
        with gr.Blocks() as blocks:
            audio = gr.Audio()
        LocalContext.blocks.set(blocks)

        async def moved() -> object:
            return await processing_utils.async_move_files_to_cache(
                given, audio, check_in_upload_folder=True
            )

        # Mounted but not launched, Gradio takes any path: the reason for the function.
        await moved()
        refuse_downloads(blocks)
        with pytest.raises(InvalidPathError):
            await moved()
        with pytest.raises(BadField):
            await audio.async_move_resource_to_block_cache("http://x.example/a.wav")

    asyncio.run(take())


def test_pages_are_built_without_applications_and_answered_by_the_mounted_one(monkeypatch):
    from gradio.routes import App

    made = []
    create = App.create_app

    def counted(*args: object, **options: object) -> App:
        made.append(create(*args, **options))
        return made[-1]

    monkeypatch.setattr(App, "create_app", staticmethod(counted))

    async def build() -> object:
        with gr.Blocks() as blocks:
            gr.Button().click(lambda: None, api_name="nothing")
            blocks.queue()
        with blocks.route("More", "/more"):
            gr.Textbox()
        return blocks

    # Gradio makes one after the other; else the function has become needless.
    asyncio.run(build())
    assert len(made) == 4
    with without_applications():
        blocks = asyncio.run(build())
    assert len(made) == 4

    async def mount() -> None:
        app = create(blocks)
        answer_by(blocks, app)
        assert blocks.app is app and app.get_blocks() is blocks

    asyncio.run(mount())
    # As before for who builds pages otherwise.
    asyncio.run(build())
    assert len(made) == 8
