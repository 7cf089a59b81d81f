"""All pages as one Gradio application: which there are, their styles, scripts and fonts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from emotion2vec_ui.batch.jobs import Jobs
from emotion2vec_ui.lab.atlas import Atlas
from emotion2vec_ui.page import batch as batch_page
from emotion2vec_ui.page import history as history_page
from emotion2vec_ui.page import lab as lab_page
from emotion2vec_ui.page.recognise import EXAMPLES, Count, MainPage
from emotion2vec_ui.page.words import one_language_at_a_time, script_facts, translations
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records.index import History
from emotion2vec_ui.settings import Settings

ASSETS = Path(__file__).parent / "assets"
STYLES = (
    "page.css",
    "form.css",
    "history.css",
    "similar.css",
    "lab.css",
    "subclass.css",
    "batch.css",
)
SCRIPTS = ("page.js", "form.js", "result.js")
"""In the order in which they run."""

FONTS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
)
MONOSPACE_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
"""Of the system: nothing is fetched from a font server."""


def build(
    recogniser: Recogniser,
    *,
    settings: Settings,
    history: History,
    jobs: Jobs,
    atlas: Atlas,
    count: Count,
) -> tuple[gr.Blocks, dict[str, Any]]:
    """Builds the pages.

    Args:
        recogniser: does the work.
        settings: of the program.
        history: past results.
        jobs: many recordings at once.
        atlas: clusters and map of past results.
        count: called before each recognition.

    Returns:
        The pages, and the options with which `gr.mount_gradio_app` shows them as meant.
    """
    page = MainPage(recogniser, settings, history, count)
    with page.blocks.route(batch_page.NAME, batch_page.PATH, show_in_navbar=False) as blocks:
        batch_page.add(blocks, jobs, settings)
    with page.blocks.route(history_page.NAME, history_page.PATH, show_in_navbar=False) as blocks:
        history_page.add(blocks, history, settings)
    with page.blocks.route(lab_page.NAME, lab_page.PATH, show_in_navbar=False) as blocks:
        lab_page.add(blocks, recogniser, atlas, history)
    styles = [(ASSETS / name).read_text(encoding="utf-8") for name in STYLES]
    scripts = [(ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    options = {
        "theme": _theme(),
        "css": "\n".join([one_language_at_a_time(), *styles]),
        "head": f"<style>{(ASSETS / 'first.css').read_text(encoding='utf-8')}</style>"
        f"<script>window.emotionPageFacts = {script_facts(settings)};</script>"
        + "".join(f"<script>{one}</script>" for one in scripts),
        "i18n": translations(),
        "allowed_paths": [str(EXAMPLES)],
        "run_history": False,
        "footer_links": [],
        # Gradio would show any exception's text; ours are shown by the page itself.
        "show_error": False,
    }
    return page.blocks, options


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=FONTS,
        font_mono=MONOSPACE_FONTS,
    )
