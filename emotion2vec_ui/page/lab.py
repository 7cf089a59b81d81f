"""The lab's page: the map of all recordings, their clusters, and those that stand apart.

Like `history`, Gradio's components and their events. What takes long runs in `lab/atlas`, and is
watched here; the script in `assets/lab.js` reads the points from the API and draws them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from emotion2vec_ui.drawing import lab_view, status_view
from emotion2vec_ui.drawing.render import View, draw
from emotion2vec_ui.errors import (
    NoEmbeddings,
    NoEmbeddingsOfModel,
    ResultNotFound,
    StillComputing,
    as_known,
)
from emotion2vec_ui.lab import clusters as clustering
from emotion2vec_ui.lab import layout
from emotion2vec_ui.lab.atlas import Atlas, Map, Task
from emotion2vec_ui.lab.index import spaces
from emotion2vec_ui.lab.outliers import Outliers
from emotion2vec_ui.page.events import connect, last_of
from emotion2vec_ui.page.words import word
from emotion2vec_ui.records.clusters import Clusters
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.index_file import row_of
from emotion2vec_ui.settings import Settings
from emotion2vec_ui.texts import Phrase

NAME = "Lab"
PATH = "/lab"

POLL_S = 0.3
"""How often a running computation is looked at."""

MOST_OFFERED = 20
"""Numbers of clusters in the menu; the API takes more."""

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("map.js", "lab.js")

T = TypeVar("T")


def add(blocks: gr.Blocks, atlas: Atlas, history: History, settings: Settings) -> None:
    """Lays the page out inside `blocks`, of which a route is open, and connects it."""
    _LabPage(blocks, atlas, history, settings)


class _LabPage:
    def __init__(
        self, blocks: gr.Blocks, atlas: Atlas, history: History, settings: Settings
    ) -> None:
        self._atlas = atlas
        self._history = history
        self._queued = not settings.no_gradio_queue
        gr.HTML(draw(status_view.header("lab")), elem_id="top")
        state = gr.HTML(draw(lab_view.LabProgressView("map", None)), elem_id="lab-state")
        scripts = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
        gr.HTML(draw(lab_view.LabMapView()), elem_id="lab-map", js_on_load=scripts)
        with gr.Row(elem_id="lab-options"):
            model = gr.Dropdown(
                [], label=word("history.model"), elem_id="lab-model", visible=False, min_width=120
            )
            method = gr.Radio(
                [(word(f"lab.method.{one}"), one) for one in clustering.METHODS],
                value=clustering.KMEANS,
                label=word("lab.method"),
                elem_id="lab-method",
                min_width=120,
            )
            numbers = range(clustering.MIN_K, MOST_OFFERED + 1)
            k = gr.Dropdown(
                [(word("lab.k.auto"), clustering.AUTO), *((str(one), str(one)) for one in numbers)],
                value=clustering.AUTO,
                label=word("lab.k"),
                elem_id="lab-k",
                min_width=120,
            )
            refresh = gr.Button(word("lab.refresh"), elem_id="lab-refresh", min_width=120)
        clusters = gr.HTML(elem_id="lab-clusters")
        apart = gr.HTML(elem_id="lab-outliers")
        gr.HTML(draw(status_view.FooterView()), elem_id="bottom")

        self._connect(blocks.load, self._models, [model], [model])
        for event in (blocks.load, refresh.click, model.input):
            self._watch(event, self._draw_map, [model], [state])
            self._watch(event, self._find_clusters, [model, method, k], [clusters])
            self._watch(event, self._find_outliers, [model], [apart])
        for event in (method.input, k.input):
            self._watch(event, self._find_clusters, [model, method, k], [clusters])

    def _connect(self, event: Callable[..., Any], *args: Any, **options: Any) -> None:
        connect(event, *args, queue=self._queued, **options)

    def _watch(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Iterator[str]],
        inputs: Any,
        outputs: Any,
    ) -> None:
        """Connects what takes long: the last of several is what counts."""
        work = handler if self._queued else last_of(handler)
        self._connect(event, work, inputs, outputs, trigger_mode="always_last")

    # --- handlers ---

    def _models(self, chosen: str | None) -> Any:
        """A choice of models, where there are several."""
        try:
            names = list(dict.fromkeys(one.model for one in spaces(self._history)))
        except Exception as error:
            as_known(error, "the lab's page")
            return gr.skip()
        value = chosen if chosen in names else next(iter(names), None)
        return gr.Dropdown(choices=names, value=value, visible=len(names) > 1)

    def _draw_map(self, model: str | None) -> Iterator[str]:
        yield from self._shown("map", lambda: self._atlas.map(model), _ready)

    def _find_clusters(self, model: str | None, method: str, k: str) -> Iterator[str]:
        # HDBSCAN finds the number by itself.
        number = k if method == clustering.KMEANS else clustering.AUTO

        def shown(found: Clusters) -> View:
            rows = {}
            for folder in (name for one in found.clusters for name in one.typical):
                with contextlib.suppress(ResultNotFound):  # removed since
                    rows[folder] = row_of(folder, self._history.get(folder))
            return lab_view.clusters_view(found, rows, number)

        yield from self._shown(
            "clusters", lambda: self._atlas.clusters(model, method=method, k=number), shown
        )

    def _find_outliers(self, model: str | None) -> Iterator[str]:
        yield from self._shown("outliers", lambda: self._atlas.outliers(model), _outliers)

    def _shown(
        self, name: str, ask: Callable[[], Task[T]], finished: Callable[[T], View]
    ) -> Iterator[str]:
        """How far a task is while it runs, then what came of it."""
        try:
            task = ask()
            before = ""
            while True:
                try:
                    outcome = task.wait(POLL_S)
                    break
                except StillComputing:
                    now = draw(lab_view.LabProgressView(name, task.share or None))
                    if now != before:
                        yield (before := now)
            yield draw(finished(outcome))
        except NoEmbeddingsOfModel as error:
            yield draw(status_view.failure(error))
        except NoEmbeddings:
            yield draw(lab_view.LabEmptyView()) if name == "map" else ""
        except Exception as error:
            yield draw(status_view.failure(as_known(error, "the lab's page")))


def _ready(found: Map) -> View:
    folders = (row.folder for row in found.rows)
    return lab_view.map_ready(found.model, folders, is_plain=found.method == layout.PCA)


def _outliers(found: Outliers) -> View:
    guide_low, guide_high = found.article_range
    guide = {"guide_low": guide_low, "guide_high": guide_high}
    norms = Phrase("outliers.no_range", **guide)
    if found.norm_range is not None:
        low, high = found.norm_range
        norms = Phrase("outliers.range", low=low, high=high, **guide)
    shown = found.outliers[: lab_view.MOST_OUTLIERS]
    return lab_view.LabOutliersView(
        summary=Phrase(
            "outliers.found", count=len(found.outliers), of=found.count, model=found.model
        ),
        norms=norms,
        lines=tuple(
            lab_view.OutlierLine(
                one.folder,
                one.name or one.folder,
                f"{one.score:.2f}",
                tuple(Phrase(f"outliers.{reason}", norm=one.norm) for reason in one.reasons),
            )
            for one in shown
        ),
        more=len(found.outliers) - len(shown),
        all_folders=" ".join(one.folder for one in found.outliers),
    )
