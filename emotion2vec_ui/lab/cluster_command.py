"""`cluster`: groups of past recordings, as text or JSON."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import asdict

from emotion2vec_ui import logs
from emotion2vec_ui.console import OK, language, print_json
from emotion2vec_ui.errors import BadField
from emotion2vec_ui.settings import Settings, UsageError
from emotion2vec_ui.texts import text

METHODS = ("kmeans", "hdbscan")
"""As `lab/clusters`, which `--help` must not import."""

SLOW_FROM = 2_000
"""Recordings from which on it takes over a second, and says how far it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
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


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Clusters the recordings in the outputs folder.

    Raises:
        UsageError: `--k` cannot be used.
        NoEmbeddings, TooFewEmbeddings: there is nothing to cluster.
    """
    logs.configure("text")
    from emotion2vec_ui.drawing import lab_words
    from emotion2vec_ui.lab import clusters as clustering
    from emotion2vec_ui.lab.index import check_enough, space
    from emotion2vec_ui.lab.reduction import reduced
    from emotion2vec_ui.records.index import History

    try:
        k = clustering.check(options.method, options.k)
    except BadField as error:
        raise UsageError(f"--k: {options.k!r}; expected {error.facts['allowed']}.") from None
    lang = language(settings)
    with contextlib.closing(History(settings.outputs)) as history:
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
    names = {row.folder: row.name or row.folder for row in found.rows}
    print("\n".join(text(one.key, lang, **one.facts) for one in lab_words.lines(clusters, names)))
    return OK
