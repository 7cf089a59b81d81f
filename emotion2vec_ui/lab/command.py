"""`similar`, `outliers` and `cluster`: the commands around what the lab computes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.console import OK, language, print_json
from emotion2vec_ui.errors import BadField
from emotion2vec_ui.settings import Settings, UsageError

if TYPE_CHECKING:
    from emotion2vec_ui.lab.outliers import Outliers
    from emotion2vec_ui.lab.similar import Neighbour
    from emotion2vec_ui.records.index import History

METHODS = ("kmeans", "hdbscan")
"""As in `lab/clusters`, which `--help` must not import."""

SLOW_FROM = 2_000
"""Recordings from which on clustering takes over a second, and says how far it is."""


def add_similar_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `similar`."""
    parser.add_argument(
        "query",
        metavar="FILE|RESULT",
        help="a recording, or the folder of a result; one without an embedding is given it",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_outliers_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `outliers`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `cluster`."""
    parser.add_argument(
        "--k",
        default="auto",
        metavar="auto|N",
        help="number of clusters, for kmeans; auto: the one with the best silhouette",
    )
    parser.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--model",
        metavar="ID",
        default=argparse.SUPPRESS,
        help="of which model's embeddings (default: of that with most)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def similar(settings: Settings, options: argparse.Namespace) -> int:
    """Prints the results most like a recording or a result."""
    from emotion2vec_ui.lab import similar as search
    from emotion2vec_ui.pipeline import standalone
    from emotion2vec_ui.pipeline.recogniser import Embedded
    from emotion2vec_ui.records.store import is_result_name

    logs.configure("text")
    with contextlib.ExitStack() as stack:
        history = stack.enter_context(_history(settings))

        def embed(path: Path, name: str) -> Embedded:
            return stack.enter_context(standalone.recogniser(settings)).embed(path, name=name)

        path = Path(options.query)
        if is_result_name(path.name) and not path.is_file():
            query = path.name
            found = search.to_result(history, query, top=options.top, embed=embed)
        else:
            query = path.name
            found = search.to_recording(history, embed(path, query), top=options.top)
    if options.json:
        print_json(asdict(search.answer(query, found)))
    else:
        print(_similar_as_text(query, found, language(settings)))
    return OK


def outliers(settings: Settings, options: argparse.Namespace) -> int:
    """Prints which results stand apart, and why."""
    from emotion2vec_ui.lab import outliers as search

    logs.configure("text")
    with _history(settings) as history:
        found = search.find(history, settings)
    if options.json:
        print_json(asdict(found))
    else:
        print(_outliers_as_text(found, language(settings)))
    return OK


def cluster(settings: Settings, options: argparse.Namespace) -> int:
    """Prints groups of recordings that lie together.

    Raises:
        UsageError: `--k` cannot be used.
        NoEmbeddings, TooFewEmbeddings: there is nothing to group.
    """
    from emotion2vec_ui.drawing import lab_words
    from emotion2vec_ui.lab import clusters as clustering
    from emotion2vec_ui.lab.index import check_enough, space
    from emotion2vec_ui.lab.reduction import reduced

    logs.configure("text")
    try:
        k = clustering.check(options.method, options.k)
    except BadField as error:
        raise UsageError(f"--k: {options.k!r}; expected {error.facts['allowed']}.") from None
    with _history(settings) as history:
        found = space(history, getattr(options, "model", None))
        check_enough(found, clustering.MIN_RECORDINGS)
        shows = len(found.rows) >= SLOW_FROM

        def progress(share: float) -> None:
            if shows:
                print(f"\r{share:4.0%}", end="", file=sys.stderr, flush=True)

        points = reduced(found.vectors)
        labels = clustering.find(points, method=options.method, k=k, on_progress=progress)
        if shows:
            print(file=sys.stderr)
        clusters = clustering.describe(found, points, labels, options.method)
    if options.json:
        print_json(asdict(clusters))
        return OK
    lang = language(settings)
    names = {row.folder: row.name or row.folder for row in found.rows}
    for line in lab_words.lines(clusters, names):
        print(texts.text(line.key, lang, **line.facts))
    return OK


@contextlib.contextmanager
def _history(settings: Settings) -> Iterator[History]:
    from emotion2vec_ui.records.index import History

    history = History(settings.outputs, embeddings=not settings.no_index)
    try:
        yield history
    finally:
        history.close()


def _similar_as_text(query: str, found: list[Neighbour], lang: str) -> str:
    lines = [f"{query} [{found[0].row.model}]"]
    for one in found:
        emotion = texts.text(f"emotion.{one.row.emotion}", lang)
        lines.append(
            f"  {one.cosine:7.4f}  {emotion:<10} {one.row.confidence:6.1%}  "
            f"{one.row.folder}  {one.row.name}"
        )
    return "\n".join(lines)


def _outliers_as_text(found: Outliers, lang: str) -> str:
    lines = [
        texts.text(
            "outliers.found", lang, count=len(found.outliers), of=found.count, model=found.model
        )
    ]
    for one in found.outliers:
        lines.append(f"  {one.score:7.2f}  {one.folder}  {one.name}")
        for reason in one.reasons:
            lines.append(" " * 11 + texts.text(f"outliers.{reason}", lang, norm=one.norm))
    guide_low, guide_high = found.article_range
    guide = {"guide_low": guide_low, "guide_high": guide_high}
    if found.norm_range is None:
        lines.append(texts.text("outliers.no_range", lang, **guide))
    else:
        low, high = found.norm_range
        lines.append(texts.text("outliers.range", lang, low=low, high=high, **guide))
    return "\n".join(lines)
