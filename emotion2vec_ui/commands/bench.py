"""`bench`: how fast this machine answers, and which flags would make it faster."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from emotion2vec_ui import logs, texts
from emotion2vec_ui.console import FAILED, OK, in_words, language, print_json, say
from emotion2vec_ui.errors import EmotionError, NoRecordings
from emotion2vec_ui.settings import AUTO, Settings

if TYPE_CHECKING:
    import numpy as np

    from emotion2vec_ui.models.bench import Bench, Way
    from emotion2vec_ui.models.files import Location

log = logging.getLogger(__name__)

RUNTIMES = {"pytorch": "PyTorch", "openvino": "OpenVINO"}
"""How they are written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "--clips",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="recordings of your own: say how far each precision's answers to them differ",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Measures and prints a table.

    Raises:
        EmotionError: nothing could be measured.
    """
    logs.configure("text")
    from emotion2vec_ui.models import bench, machine

    lang = language(settings)
    location = _location(settings, lang)
    if location is None:
        return FAILED
    clips = _clips(options.clips, settings, lang)

    if machine.is_busy():
        say(texts.text("bench.busy", lang))

    def on_way(way: Way, number: int, count: int) -> None:
        say(texts.text("bench.measuring", lang, way=_name(way), number=number, count=count))

    found = bench.run(location, settings, clips, on_way)
    for left_out in found.left_out:
        name, problem = _name(left_out.way), left_out.problem
        say(texts.text("bench.left_out", lang, way=name, problem=problem))
    advice = _advice(found, lang)
    if options.json:
        for line in advice:
            say(line)
        print_json(_as_dict(found, len(clips)))
    else:
        print("\n".join([*_table(found, len(clips), lang), "", *advice]))
    return OK if len(clips) == len(options.clips) else FAILED


def _location(settings: Settings, lang: str) -> Location | None:
    """Of the model at hand: with `auto` the built-in one where plus_large is not here."""
    from emotion2vec_ui.models import files

    location = files.resolve(settings)
    if location is None:
        key = "bench.built_in" if settings.model == AUTO else "doctor.model_absent"
        say(texts.text(key, lang, id=files.wanted_id(settings)))
        return files.built_in() if settings.model == AUTO else None
    return location


def _clips(paths: Sequence[Path], settings: Settings, lang: str) -> list[np.ndarray]:
    """float32 (samples,), 16 kHz mono; those that cannot be used are told and left out.

    Raises:
        NoRecordings: none of them can be used.
    """
    from emotion2vec_ui.audio.load import load

    found = []
    for path in paths:
        try:
            found.append(load(path, max_duration_s=settings.max_duration_s).samples)
        except EmotionError as error:
            say(f"{path}: {in_words(error, lang)}")
    if paths and not found:
        raise NoRecordings(name="--clips", problem=texts.Phrase("batch.nothing_found"))
    return found


def _name(way: Way) -> str:
    return f"{RUNTIMES[way.runtime]} {way.precision}"


def _as_dict(found: Bench, n_clips: int) -> dict[str, object]:
    content: dict[str, object] = {
        "machine": found.machine,
        "runs": [asdict(one) for one in found.runs],
        "model": found.model,
        "device": found.device,
        "baseline": {"precision": found.baseline.precision, "runtime": found.baseline.runtime},
        "left_out": [
            {
                "precision": one.way.precision,
                "runtime": one.way.runtime,
                "problem": str(one.problem),
            }
            for one in found.left_out
        ],
        "advice": [asdict(one) for one in found.advice],
    }
    if n_clips:
        content["clips"] = n_clips
        content["differences"] = [asdict(one) for one in found.differences]
    return content


def _table(found: Bench, n_clips: int, lang: str) -> list[str]:
    """A line for each way, a column for each length: seconds, and times as fast."""
    lengths = sorted({one.clip_s for one in found.runs})
    title = texts.text("bench.title", lang, model=found.model, device=found.device)
    baseline = texts.text("bench.baseline", lang, way=_name(found.baseline))
    header = f"{'':<16}" + "".join(f"{s:>9g} s      " for s in lengths)
    lines = [title, baseline, "", header.rstrip()]
    rows: dict[tuple[str, str], list[str]] = {}
    for one in found.runs:
        cell = f"{one.seconds:>9.3f} ({one.ratio:.1f}x)".ljust(17)
        rows.setdefault((one.runtime, one.precision), []).append(cell)
    for (runtime, precision), cells in rows.items():
        lines.append(f"{RUNTIMES[runtime]} {precision}".ljust(16) + "".join(cells).rstrip())
    if found.differences:
        lines += ["", texts.text("bench.clips", lang, count=n_clips, way=_name(found.baseline))]
    for difference in found.differences:
        name = f"{RUNTIMES[difference.runtime]} {difference.precision}"
        facts = {"score": difference.score, "changed": difference.labels_changed}
        lines.append(texts.text("bench.difference", lang, way=name, **facts))
    return [*lines, "", found.machine]


def _advice(found: Bench, lang: str) -> list[str]:
    """What to switch on, a line each."""
    if not found.advice:
        return [texts.text("bench.nothing", lang)]
    lines = []
    for one in found.advice:
        lines.append(texts.text("bench.advice", lang, flags=one.flags, speed=one.speed))
        if one.precision == "int8" and not found.differences:
            lines.append(texts.text("bench.int8", lang))
    return lines
