"""How long similar recordings take to find with many results: `python -m benchmarks.lab`.

Writes `benchmarks/results/lab.md`. Each folder holds a result.json (one file, linked) and a random
embedding: an exact search does not mind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.history import EXAMPLE, recognised
from emotion2vec_ui.lab import outliers, similar
from emotion2vec_ui.lab.index import space
from emotion2vec_ui.models.machine import describe
from emotion2vec_ui.records import store
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import to_json
from emotion2vec_ui.records.vectors import FILE_PREFIX
from emotion2vec_ui.settings import Settings

RESULT = Path(__file__).parent / "results" / "lab.md"
QUERIES, CHANGES = 100, 20
P95_LIMIT_MS, OPEN_LIMIT_S, BYTES_LIMIT = 20.0, 1.0, 2500


class Outputs:
    """A folder of results that share one result.json.

    Args:
        folder: to be made.
        dim: of the embeddings.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self._dim = dim
        self._dice = np.random.default_rng(0)
        self._moment = datetime(2026, 1, 1)
        folder.mkdir()
        example = recognised(EXAMPLE)
        assert example.model is not None
        self._report = folder / "report"
        self._report.write_bytes(
            to_json(replace(example, model=replace(example.model, id="iic/emotion2vec_plus_large")))
        )

    def add(self) -> str:
        """One more result; its name."""
        self._moment += timedelta(seconds=97)
        path = self.folder / self._moment.strftime("outputs_%Y%m%d_%H%M%S")
        path.mkdir()
        # Ten thousand at most have the same file: a file system bounds its links.
        target = path / store.RESULT_NAME
        try:
            os.link(self._report, target)
        except OSError:
            content = self._report.read_bytes()
            self._report.unlink()
            self._report.write_bytes(content)
            os.link(self._report, target)
        np.save(path / store.KEPT_EMBEDDING_NAME, self._dice.normal(size=self._dim).astype("f2"))
        return path.name

    def age(self, history: History) -> None:
        """As it is a few seconds after the last recognition: the list need not be read."""
        long_ago_ns = self.folder.stat().st_mtime_ns - 60_000_000_000
        os.utime(self.folder, ns=(long_ago_ns, long_ago_ns))
        history.search()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Outputs(Path(scratch) / "outputs", options.dim)
        names = [outputs.add() for _ in range(options.results)]
        rows = measure(outputs, names)
    lines = [
        "# Similar recordings",
        "",
        f"{options.results:,} results with embeddings of {options.dim} dimensions. "
        + describe(("usearch", "numpy", "scikit-learn")),
        "",
        "| what | median | 95 % | worst |",
        "|---|---|---|---|",
        *(f"| {what} | {' | '.join(figures)} |" for what, figures in rows),
        "",
        f"Wanted: 95 % of the searches in at most {P95_LIMIT_MS:g} ms, opening in under "
        f"{OPEN_LIMIT_S:g} s, at most {BYTES_LIMIT} bytes a vector.",
        "",
        "Made by `python -m benchmarks.lab`.",
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def measure(outputs: Outputs, names: list[str]) -> list[tuple[str, tuple[str, str, str]]]:
    history = History(outputs.folder)
    rows: list[tuple[str, tuple[str, str, str]]] = []

    def once(what: str, work: Callable[[], object]) -> None:
        started = time.perf_counter()
        work()
        rows.append((what, (f"{time.perf_counter() - started:.2f} s", "", "")))

    def timed(what: str, count: int, work: Callable[[int], object]) -> None:
        taken_ms = []
        for number in range(count):
            started = time.perf_counter()
            work(number)
            taken_ms.append((time.perf_counter() - started) * 1000)
        cuts = statistics.median(taken_ms), float(np.quantile(taken_ms, 0.95)), max(taken_ms)
        rows.append((what, (f"{cuts[0]:.1f} ms", f"{cuts[1]:.1f} ms", f"{cuts[2]:.1f} ms")))

    def search(number: int) -> None:
        # 7919 is a prime: queries from everywhere in the file.
        folder = names[7919 * number % len(names)]
        found = similar.to_result(history, folder)
        assert found[0].row.folder == folder and found[0].cosine == 1

    once("index built from the folders", history.search)
    outputs.age(history)
    search(0)
    timed("the ten most similar to a result", QUERIES, search)
    (file,) = outputs.folder.glob(f"{FILE_PREFIX}*")
    rows.append(("bytes a vector", (f"{file.stat().st_blocks * 512 / len(names):.0f}", "", "")))
    history.close()

    def open_again() -> None:
        again = History(outputs.folder)
        again.search()
        again.close()

    once("index opened, newest page", open_again)
    timed("a result added, and found", CHANGES, lambda _: _found(history, outputs.add()))
    removed = iter(names[-CHANGES:])
    timed("a result deleted, and gone", CHANGES, lambda _: _gone(history, next(removed)))
    outputs.age(history)
    del names[-CHANGES:]
    timed("the ten most similar, 20 rows free", QUERIES, search)
    once("all embeddings with their results, for clusters", lambda: space(history))
    once("outliers", lambda: outliers.find(history, Settings(outputs=outputs.folder)))
    history.close()
    return rows


def _found(history: History, folder: str) -> None:
    assert similar.to_result(history, folder)[0].row.folder == folder


def _gone(history: History, folder: str) -> None:
    history.delete([folder])
    history.search()


if __name__ == "__main__":
    main()
