"""A result as files of other programs: CSV, SubRip, WebVTT, Praat, Audacity, zip."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from emotion2vec_ui import texts
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading.timeline import Segment
from emotion2vec_ui.records import store
from emotion2vec_ui.records.report import Report

PARTS = ("segments", "sentences")
"""What a file over time may hold: stretches of one emotion, or of speech recognised by itself."""


MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "TextGrid": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
"""For HTTP: of each text format, by the ending of its files."""


def export(report: Report, ending: str, *, lang: str, part: str = "segments") -> str:
    """The report in one of the formats.

    Args:
        report: of either granularity; an utterance is one stretch as long as the recording.
        ending: a key of `MEDIA_TYPES`.
        lang: of the emotions' words; CSV, which programs read, has the keys.
        part: one of `PARTS`.
    """
    names = {one: texts.text(f"emotion.{one}", lang) for one in EMOTIONS}
    parts = stretches(report, part)
    match ending:
        case "csv":
            return to_csv(parts) if report.granularity == "frame" else _scores_csv(report)
        case "srt":
            return to_srt(parts, names)
        case "vtt":
            return to_vtt(parts, names)
        case "TextGrid":
            duration_s = 0.0 if report.source is None else report.source.duration_s
            return to_textgrid(parts, names, duration_s=duration_s)
        case "txt":
            return to_audacity(parts, names)
    raise ValueError(f"no format has the ending {ending!r}")


def stretches(report: Report, part: str = "segments") -> tuple[Segment, ...]:
    """The stretches of a report: its segments or its sentences; an utterance is one."""
    if part == "sentences":
        return tuple(
            Segment(one.emotion, one.start_s, one.end_s, one.confidence)
            for one in report.utterances
        )
    if report.granularity == "frame" or report.source is None:
        return report.segments
    return (Segment(report.emotion, 0.0, report.source.duration_s, report.confidence),)


def write_zip(folder: Path, target: BinaryIO) -> None:
    """Writes every file of a result into a zip archive."""
    # Audio and embeddings barely shrink; storing them keeps the download of an hour quick.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, _ in store.files_in(folder):
            archive.write(folder / name, f"{folder.name}/{name}")


def _scores_csv(report: Report) -> str:
    rows = [f"{emotion},{score}" for emotion, score in report.nine_scores.items()]
    return "\r\n".join(["emotion,score", *rows, ""])


def to_csv(parts: Sequence[Segment]) -> str:
    """RFC 4180 with a header: `start_s,end_s,emotion,confidence`; ms and four decimals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["start_s", "end_s", "emotion", "confidence"])
    for s in parts:
        writer.writerow([f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.emotion, f"{s.confidence:.4f}"])
    return text.getvalue()


def to_srt(parts: Sequence[Segment], names: Mapping[str, str]) -> str:
    """SubRip subtitles, one cue per segment: `happy 85%`.

    Args:
        parts: Segments in order.
        names: Word to show per emotion; the key itself where it has none.
    """
    cues = []
    for number, s in enumerate(parts, 1):
        times = f"{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}"
        cues.append(f"{number}\n{times}\n{_caption(s, names)}\n")
    return "\n".join(cues)


def to_vtt(parts: Sequence[Segment], names: Mapping[str, str]) -> str:
    """WebVTT (W3C); `&`, `<` and `>` are escaped as it asks. Arguments as `to_srt`."""
    cues = ["WEBVTT\n"]
    for s in parts:
        text = _caption(s, names).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}\n{text}\n")
    return "\n".join(cues)


def to_textgrid(
    parts: Sequence[Segment],
    names: Mapping[str, str],
    *,
    duration_s: float,
) -> str:
    """Praat TextGrid (long text format): one interval tier `emotion`, gaps as empty intervals.

    Args:
        parts: Segments in order, not overlapping.
        names: As in `to_srt`.
        duration_s: End of the tier, where the last segment does not end later.
    """
    end_s = max([duration_s, *(s.end_s for s in parts)])
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for s in parts:
        # Praat wants intervals without gaps; a difference under 1 ms is rounding.
        if s.start_s - at >= 0.001:
            intervals.append((at, s.start_s, ""))
            at = s.start_s
        intervals.append((at, s.end_s, _one_line(names.get(s.emotion, s.emotion))))
        at = s.end_s
    if end_s - at >= 0.001 or not intervals:
        intervals.append((at, end_s, ""))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end_s:.6f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "emotion"',
        "        xmin = 0",
        f"        xmax = {end_s:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (low, high, text) in enumerate(intervals, 1):
        quoted = text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {low:.6f}",
            f"            xmax = {high:.6f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


def to_audacity(parts: Sequence[Segment], names: Mapping[str, str]) -> str:
    """Audacity label track: start, end and label, separated by tabs. Arguments as `to_srt`."""
    rows = [f"{s.start_s:.6f}\t{s.end_s:.6f}\t{_caption(s, names)}" for s in parts]
    return "".join(row + "\n" for row in rows)


def _caption(segment: Segment, names: Mapping[str, str]) -> str:
    word = names.get(segment.emotion, segment.emotion)
    return f"{_one_line(word)} {segment.confidence:.0%}"


def _one_line(text: str) -> str:
    # A line break ends a cue and a tab a field.
    return " ".join(text.split())


def _clock(time_s: float, point: str) -> str:
    """Hours:minutes:seconds with milliseconds; `point` is `,` in SRT and `.` in VTT."""
    ms = round(time_s * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
