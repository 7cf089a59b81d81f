"""How long the history takes with thousands of results: `python -m benchmarks.history`.

Writes `benchmarks/results/history.md`. Each folder holds a result.json: that of the example
recording by the built-in model, with other scores, names and dates. Audio and embeddings are left
out, for the index does not open them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from emotion2vec_ui.audio.load import load
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.models.holder import ModelHolder
from emotion2vec_ui.pipeline.recogniser import Recogniser
from emotion2vec_ui.records.filters import QUALITIES, SORTS, Filters
from emotion2vec_ui.records.index import History
from emotion2vec_ui.records.report import Report, to_json
from emotion2vec_ui.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "emotion2vec_ui" / "page" / "assets" / "examples" / "en.wav"

RESULT = ROOT / "benchmarks" / "results" / "history.md"
SEARCHES = 50
BUILD_LIMIT_S, SEARCH_LIMIT_MS = 15.0, 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=10_000)
    folders = parser.parse_args().folders
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Path(scratch) / "outputs"
        size = make(outputs, folders)
        rows = measure(outputs)
    lines = [
        "# History",
        "",
        f"{folders:,} results of {size / 1000:.0f} kB each (result.json); "
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; load {os.getloadavg()[0]:.1f} while it ran.",
        "",
        "| what | median | worst |",
        "|---|---|---|",
        *(f"| {what} | {median} | {worst} |" for what, median, worst in rows),
        "",
        f"Wanted: index in under {BUILD_LIMIT_S:g} s, a search in under {SEARCH_LIMIT_MS:g} ms.",
        "",
        "Made by `python -m benchmarks.history`.",
    ]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def make(outputs: Path, folders: int) -> int:
    """Writes the folders; returns the size of one result.json in bytes."""
    outputs.mkdir()
    dice = random.Random(0)
    example = recognised(EXAMPLE)
    assert example.source is not None and example.quality is not None
    start = datetime(2026, 1, 1)
    content = b""
    for number in range(folders):
        moment = start + timedelta(seconds=97 * number)
        emotion, confidence = dice.choice(EMOTIONS), round(dice.uniform(0.2, 0.99), 3)
        others = (1 - confidence) / (len(EMOTIONS) - 1)
        report = replace(
            example,
            emotion=emotion,
            confidence=confidence,
            scores={one: confidence if one == emotion else others for one in EMOTIONS},
            timestamp=moment.strftime("%Y-%m-%d %H:%M:%S"),
            source=replace(example.source, name=f"录音 {number % 997} call.wav"),
            quality=replace(example.quality, verdict=dice.choice(QUALITIES)),
        )
        content = to_json(report)
        folder = outputs / moment.strftime("outputs_%Y%m%d_%H%M%S")
        folder.mkdir()
        (folder / "result.json").write_bytes(content)
    return len(content)


def recognised(recording: Path) -> Report:
    """What the built-in model says of it."""
    settings = Settings(model="compact", device="cpu")
    holder = ModelHolder(settings)
    holder.start()
    recogniser = Recogniser(settings, holder, lambda path, name: load(path, name=name))
    try:
        return recogniser.analyse(recording, save=False).report
    finally:
        recogniser.stop(10)


def measure(outputs: Path) -> list[tuple[str, str, str]]:
    history = History(outputs)
    started = time.perf_counter()
    history.search()
    rows = [("index built from the folders", f"{time.perf_counter() - started:.2f} s", "")]

    def timed(what: str, work: Callable[[int], object]) -> None:
        taken_ms = []
        for number in range(SEARCHES):
            started = time.perf_counter()
            work(number)
            taken_ms.append((time.perf_counter() - started) * 1000)
        median, worst = statistics.median(taken_ms), max(taken_ms)
        rows.append((what, f"{median:.1f} ms", f"{worst:.1f} ms"))

    def age() -> None:
        # As it is a few seconds after the last recognition: the folder list need not be read.
        long_ago_ns = outputs.stat().st_mtime_ns - 60_000_000_000
        os.utime(outputs, ns=(long_ago_ns, long_ago_ns))
        history.search()

    age()
    timed("newest page, nothing changed", lambda number: history.search())
    asked = [
        Filters(emotion=("happy", "sad"), band=("high",), text=text, sort=sort, offset=offset)
        for text, sort, offset in itertools.product(("", "9", "录音 1"), SORTS, (0, 500))
    ]
    timed("filters, text and every sort", lambda number: history.search(asked[number % len(asked)]))

    def after_a_new_one(number: int) -> None:
        (outputs / f"outputs_20300101_{number:06}").mkdir()
        history.search()

    timed("newest page after each new folder", after_a_new_one)
    age()
    started = time.perf_counter()
    size = sum(len(line) for line in history.export_csv())
    taken = f"{time.perf_counter() - started:.2f} s"
    rows.append((f"CSV of everything ({size / 1e6:.1f} MB)", taken, ""))
    history.close()
    again = History(outputs)
    started = time.perf_counter()
    again.search()
    rows.append(
        ("first page of a new process", f"{(time.perf_counter() - started) * 1000:.0f} ms", "")
    )
    again.close()
    return rows


if __name__ == "__main__":
    main()
