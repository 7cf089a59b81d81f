"""A report as HTML and SVG: everything the page draws, and nothing of Gradio.

Each sentence is written in both languages, side by side, and the style sheet shows one of them: the
language switch needs no server, and what is on the page already changes with it.
Figures come from the report; here they are only rounded for reading and thinned out for drawing.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion2vec_ui import texts
from emotion2vec_ui.audio import damage
from emotion2vec_ui.labels import NOT_AN_EMOTION
from emotion2vec_ui.reading import scoring

if TYPE_CHECKING:
    from emotion2vec_ui.errors import EmotionError
    from emotion2vec_ui.models.holder import Status

EMOJI = {
    "angry": "😠",
    "disgusted": "🤢",
    "fearful": "😨",
    "happy": "😊",
    "neutral": "😐",
    "other": "🤔",
    "sad": "😢",
    "surprised": "😮",
    "unknown": "❓",
}

STEPS = ("decode", "model", "inference", "save")

MAX_COLUMNS = 300
"""Slots of the ribbon of segments: about what a phone has pixels for."""

MAX_ROWS = 200
"""Rows of a table on the page: more would make scrolling heavy; the files hold all."""

MAX_WARNINGS = 3
"""Warnings shown beside the answer; the rest can be unfolded."""

LEGEND_FROM = 0.02
"""Emotions with a smaller share of the whole time are not named in the legend."""

NOISES = ("fan", "babble")
"""The noises that have a line in the plot of the robustness test."""

NEAR = 0.15
"""Two marks at the same noise level closer than this would cover each other."""

# Checks whose figure must stay under the threshold; the others must reach it.
_AT_MOST = frozenset({"clipping", "dropouts", "dc_offset", "onset", "offset"})

_MARKS = {"ok": "✓", "warn": "!", "fail": "✕", "unknown": "?"}
_LANG_TAGS = {"zh": "zh-CN", "en": "en"}


# --- words --------------------------------------------------------------------------------------


def each(words: Callable[[str], str]) -> str:
    """What `words` says in each language, as HTML of which one language is visible."""
    said = {lang: escape(words(lang)) for lang in texts.languages()}
    if len(set(said.values())) == 1:
        return said["en"]
    return "".join(
        f'<span class="{lang}" lang="{_LANG_TAGS[lang]}">{text}</span>'
        for lang, text in said.items()
    )


def both(key: str, **facts: Any) -> str:
    """The text of `key` in both languages."""
    return each(lambda lang: texts.text(key, lang, **facts))


def emotion_name(emotion: str) -> str:
    """The emotion's word; Chinese readers get the English key beside it, as result.json has it."""
    return both(f"emotion.{emotion}.long")


def _mark(emotion: str) -> str:
    return f'<span class="emoji" aria-hidden="true">{EMOJI[emotion]}</span>'


def marked_emotion(emotion: str) -> str:
    """The emotion's mark and word."""
    return _mark(emotion) + both(f"emotion.{emotion}")


def _percent(share: float) -> str:
    return f"{share:.1%}"


def clock(seconds: float) -> str:
    """`3.2 s` below a minute, then `1:05.3` and `1:02:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes:.0f}:{rest:04.1f}"
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{rest:02.0f}"


def megabytes(n_bytes: float) -> str:
    """A size with its unit: kB, MB or GB of 1000."""
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.1f} kB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2f} GB"


def _card(title: str, body: str, *, aside: str = "", name: str = "") -> str:
    head = f'<div class="card-head"><h3>{title}</h3>{aside}</div>'
    return f'<section class="card {name}">{head}{body}</section>'


def _pill(kind: str, words: str) -> str:
    return f'<span class="pill {kind}">{words}</span>'


def band_pill(band: str) -> str:
    """The band as a coloured label."""
    return _pill(f"band-{band}", both(f"band.{band}"))


# --- before, while and instead of a result --------------------------------------------------------


def header() -> str:
    """Title, claim, and the switches of language and brightness."""
    wave = "".join(
        f'<rect x="{3 + 5 * i}" y="{16 - h}" width="3" height="{2 * h}" rx="1.5"/>'
        for i, h in enumerate((4, 9, 13, 7, 11, 5))
    )
    languages = "".join(
        f'<button type="button" data-set-lang="{lang}" lang="{_LANG_TAGS[lang]}">{word}</button>'
        for lang, word in (("zh", "中文"), ("en", "English"))
    )
    return f"""
<header class="top">
  <svg class="logo" viewBox="0 0 34 32" aria-hidden="true">{wave}</svg>
  <div class="top-words"><h1>{both("ui.title")}</h1><p>{both("ui.claim")}</p></div>
  <div class="switches">
    <div class="segmented" role="group" aria-label="语言 / Language">{languages}</div>
    <button type="button" class="icon" data-theme-switch>
      <span aria-hidden="true">◐</span><span class="sr">{both("ui.theme")}</span>
    </button>
  </div>
</header>"""


def footer() -> str:
    """The warning that belongs under every page of this kind."""
    link = f'<a href="docs" target="_blank" rel="noopener">{both("ui.footer.api")}</a>'
    return f'<footer class="bottom"><span>{both("ui.footer")}</span>{link}</footer>'


def tips() -> str:
    """How to record."""
    items = "".join(
        f"<li>{both(f'ui.tips.{tip}')}</li>" for tip in ("distance", "length", "sentence", "format")
    )
    return f'<details class="tips"><summary>{both("ui.tips")}</summary><ul>{items}</ul></details>'


def empty() -> str:
    """What will stand where the result comes."""
    items = "".join(
        f'<li><span aria-hidden="true">{mark}</span>{both(f"ui.empty.{item}")}</li>'
        for item, mark in (
            ("emotion", "😊"),
            ("scores", "📊"),
            ("quality", "🎙️"),
            ("time", "⏱️"),
            ("files", "📁"),
        )
    )
    return (
        f'<section class="card empty"><h2>{both("ui.empty.title")}</h2>'
        f"<p>{both('ui.empty.text')}</p><ul>{items}</ul></section>"
    )


def progress(name: str, step: str, share: float, seconds: float, status: Status) -> str:
    """The named steps, which of them runs, and how far it is.

    Args:
        name: of the recording.
        step: one of `STEPS`.
        share: done part of that step, 0 to 1.
        seconds: since the start.
        status: of the model, shown while the request waits for it.
    """
    at = STEPS.index(step)
    items = []
    for number, one in enumerate(STEPS):
        state = "done" if number < at else "active" if number == at else "todo"
        extra = ""
        if state == "active" and one == "inference" and 0 < share < 1:
            extra = f"<b>{share:.0%}</b>"
        if state == "active" and one == "model":
            extra = f"<small>{_model_words(status)}</small>"
        current = ' aria-current="step"' if state == "active" else ""
        items.append(f'<li class="{state}"{current}>{both(f"ui.step.{one}")} {extra}</li>')
    # Only inference can tell its share; the other steps are short and show movement instead.
    known = step == "inference" and share > 0
    bar = (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share * 100:.0f}"><i style="width:{share:.1%}"></i></div>'
        if known
        else '<div class="bar moving"><i></i></div>'
    )
    return (
        f'<section class="card running" role="status"><h2>{both("ui.running", name=name)}</h2>{bar}'
        f'<ol class="steps">{"".join(items)}</ol>'
        f'<p class="muted">{both("ui.running.seconds", seconds=seconds)}</p></section>'
    )


def failure(error: EmotionError) -> str:
    """What was found, what was expected, what to do."""
    return (
        f'<section class="card failure" role="alert"><h2><span aria-hidden="true">⚠</span> '
        f"{both('ui.error')}</h2><p class='found'>{each(error.message)}</p>"
        f"<p class='remedy'>{each(error.hint)}</p></section>"
    )


def cancelled() -> str:
    """Said after the cancel button."""
    return f'<section class="card empty" role="status"><p>{both("ui.cancelled")}</p></section>'


# --- the model ------------------------------------------------------------------------------------


def badge(status: Status) -> str:
    """Which model answers and why, and how far the wanted one is."""
    settled = status.state == "ready"
    failed = status.state == "failed"
    compact = status.answering_built_in
    lines = []
    if compact:
        why = f"ui.notice.{status.notice}" if status.notice else "ui.model.chosen"
        lines.append(f"<b>{both('ui.model.compact')}</b> {both(why)}")
        lines.append(both("ui.model.limits"))
    if not (compact and (settled or failed)):
        lines.append(_model_words(status))
    if failed and status.error is not None:
        error = status.error.public()
        lines.append(f"{each(error.message)} {each(error.hint)}")
        lines.append(_retry(status))
    elif not settled and status.answering is None:
        lines.append(f'<span class="muted">{both("ui.model.early")}</span>')
    if settled or failed:
        kind = "limited" if compact else "failed" if failed else "ready"
    else:
        kind = "busy"
    body = "".join(f"<div>{line}</div>" for line in lines)
    bar = ""
    if status.state == "downloading":
        done = status.progress
        bar = (
            '<div class="bar moving"><i></i></div>'
            if done is None
            else f'<div class="bar"><i style="width:{done:.1%}"></i></div>'
        )
    dot = '<i class="dot" aria-hidden="true"></i>'
    return f'<div class="badge {kind}">{dot}<div>{body}{bar}</div></div>'


def _retry(status: Status) -> str:
    wait = ""
    if status.retry_in_s is not None:
        wait = f'<span class="muted">{both("ui.model.retry_in", seconds=status.retry_in_s)}</span>'
    button = f'<button type="button" class="link" data-press="retry">{both("ui.model.retry")}'
    return f"{button}</button> {wait}"


def _model_words(status: Status) -> str:
    facts = {
        "wanted": status.wanted,
        "answering": status.answering or status.wanted,
        "seconds": status.seconds,
    }
    words = f"<b>{both(f'ui.model.{status.state}', **facts)}</b>"
    if status.state != "downloading":
        return words
    if status.progress is not None:
        words += f" <b>{status.progress:.0%}</b>"
    if status.bytes_total:
        words += " · " + both(
            "ui.model.rate",
            done=megabytes(status.bytes_done),
            total=megabytes(status.bytes_total),
            rate=megabytes(status.rate_bytes_s),
        )
    if status.eta_s is not None:
        long = status.eta_s > 90
        left = (
            both("ui.model.eta_min", minutes=status.eta_s / 60)
            if long
            else both("ui.model.eta_s", seconds=status.eta_s)
        )
        words += f" · {left}"
    return words


# --- the result -----------------------------------------------------------------------------------


def result(report: Mapping[str, Any], base: str, files: Iterable[tuple[str, int]]) -> str:
    """The whole right-hand side for one report.

    Args:
        report: the content of result.json.
        base: address of the result's folder, ending in "/".
        files: name and size in bytes of each file in it.
    """
    in_frames = report["granularity"] == "frame"
    scores = report["utterance_scores"] if in_frames else report["scores"]
    parts = [leader(report), score_bars(scores, report["distribution"]["margin"])]
    if in_frames:
        parts += [over_time(report, base), segment_table(report), utterance_table(report)]
        parts.append(quality(report))
    else:
        parts.append(quality(report, base))
    parts.append(downloads(report, base, files))
    if report["embedding"]:
        parts.append(embedding(report["embedding"]))
    parts += [log(report), details(report)]
    return f'<div class="result" data-ready>{"".join(parts)}</div>'


def leader(report: Mapping[str, Any]) -> str:
    """The emotion, its confidence on the scale of bands, the advice and what limits it."""
    emotion, confidence = report["emotion"], report["confidence"]
    band = report["reliability"]["band"]
    percent = _percent(confidence)
    warnings = _warnings(report["warnings"])
    return f"""
<section class="card leader" data-emotion="{emotion}">
  <div class="leader-head">
    <span class="leader-emoji" aria-hidden="true">{EMOJI[emotion]}</span>
    <div>
      <h2>{emotion_name(emotion)}</h2>
      <p class="leader-confidence">{both("ui.confidence", percent=percent)}</p>
    </div>
    {band_pill(band)}
  </div>
  {_band_scale(confidence)}
  <p class="advice">{both(f"advice.{report['reliability']['advice_code']}")}</p>
  <p class="shape">{each(lambda lang: _distribution_text(report, lang))}</p>
  {warnings}
  <p class="muted answered">{both("ui.answered_by", model=report["model"]["id"])}</p>
</section>"""


def _distribution_text(report: Mapping[str, Any], lang: str) -> str:
    """The report's sentence on its distribution, in either language, from the report's codes."""
    distribution = report["distribution"]
    leading = [one["emotion"] for one in distribution["leading"]]
    words = {one: texts.text(f"emotion.{one}", lang) for one in leading}
    name = words.get(report["emotion"], texts.text(f"emotion.{report['emotion']}", lang))
    sentence = texts.text(
        f"shape.{distribution['shape']}", lang, leader=name, percent=_percent(report["confidence"])
    )
    if distribution["mixture"]:
        beside = (words[one] for one in leading[1:] if one not in NOT_AN_EMOTION)
        sentence += texts.text(
            f"mixture.{distribution['mixture']}",
            lang,
            leader=name,
            beside=texts.text("list.join", lang).join(beside),
        )
    return sentence


def _warnings(warnings: Sequence[Mapping[str, Any]]) -> str:
    """What limits the claim itself first, then the recording; many are folded away."""
    if not warnings:
        return ""
    ranked = sorted(warnings, key=lambda one: not texts.has(f"caveat.{one['code']}"))
    items = [f"<li>{_warning(one)}</li>" for one in ranked]
    shown, rest = items[:MAX_WARNINGS], items[MAX_WARNINGS:]
    more = ""
    if rest:
        summary = both("ui.warnings.more", count=len(rest))
        more = f"<details><summary>{summary}</summary><ul>{''.join(rest)}</ul></details>"
    return f'<div class="mind"><h4>{both("ui.warnings")}</h4><ul>{"".join(shown)}</ul>{more}</div>'


def _warning(warning: Mapping[str, Any]) -> str:
    for area in ("quality", "warning", "caveat"):
        key = f"{area}.{warning['code']}"
        if texts.has(key):
            return both(key)
    return escape(warning["text"])


def _band_scale(confidence: float) -> str:
    """Where the confidence lies among the bands; the words stand under their parts."""
    edges = (0.0, scoring.LOW_FROM, scoring.MEDIUM_FROM, scoring.HIGH_ABOVE, 1.0)
    bands = ("unreliable", "low", "medium", "high")
    zones = "".join(
        f'<li class="band-{band}" style="flex:{high - low:.2f}">{both(f"band.{band}")}</li>'
        for band, low, high in zip(bands, edges, edges[1:], strict=False)
    )
    return (
        f'<div class="scale"><ol>{zones}</ol>'
        f'<i class="needle" style="left:{confidence:.1%}" aria-hidden="true"></i></div>'
    )


def score_bars(scores: Mapping[str, float], margin: float) -> str:
    """All nine scores, highest first."""
    ranked = sorted(scores, key=lambda emotion: -scores[emotion])
    rows = "".join(
        f"<li{' class=first' if number == 0 else ''}>"
        f'<span class="name">{marked_emotion(emotion)}</span>'
        f'<span class="track"><i style="width:{scores[emotion]:.2%}"></i></span>'
        f'<span class="figure">{_percent(scores[emotion])}</span></li>'
        for number, emotion in enumerate(ranked)
    )
    aside = f'<span class="muted">{both("ui.scores.margin", margin=_percent(margin))}</span>'
    return _card(both("ui.scores"), f'<ol class="scores">{rows}</ol>', aside=aside)


# --- the recording --------------------------------------------------------------------------------


def quality(report: Mapping[str, Any], base: str | None = None) -> str:
    """The picture of the recording and its checks.

    Args:
        report: the content of result.json.
        base: address of the folder, for the player; None where the timeline has one already.
    """
    facts = report["quality"]
    verdict = facts["verdict"]
    kind = {"good": "ok", "fair": "warn", "poor": "fail"}[verdict]
    shown = [one for one in facts["checks"] if one["verdict"] in ("warn", "fail")]
    shown.sort(key=lambda one: one["verdict"] != "fail")
    rest = [one for one in facts["checks"] if one["verdict"] in ("ok", "unknown")]
    unknown = sum(one["verdict"] == "unknown" for one in rest)
    summary = both("ui.quality.fine", count=len(rest) - unknown)
    if unknown:
        summary += f" · {both('ui.quality.unknown', count=unknown)}"
    codec = report["source"]["codec"]
    listed = f'<ul class="checks">{"".join(_check(one, codec) for one in shown)}</ul>'
    more = "".join(_check(one, codec) for one in rest)
    body = player(report, base, waveform(report)) if base else ""
    body += (
        (listed if shown else "")
        + f'<details><summary>{summary}</summary><ul class="checks">{more}</ul></details>'
        + spectrum(report)
    )
    return _card(
        both("ui.quality"), body, aside=_pill(kind, both(f"ui.quality.{verdict}")), name="quality"
    )


def _check(check: Mapping[str, Any], codec: str) -> str:
    verdict = check["verdict"]
    figure = codec if check["code"] == "codec" else _figure(check["value"], check["unit"])
    limit = ""
    if check["threshold"] is not None and check["value"] is not None:
        sign = "≤" if _is_upper_bound(check) else "≥"
        limit = f'<span class="limit">{sign} {_figure(check["threshold"], check["unit"])}</span>'
    remedy = ""
    if check["remedy"]:
        remedy = f'<span class="remedy">{both("remedy." + check["remedy"])}</span>'
    return (
        f'<li class="{verdict}"><span class="mark" aria-hidden="true">{_MARKS[verdict]}</span>'
        f'<span class="name">{both("check." + check["code"])}'
        f'<span class="sr"> ({both(f"ui.verdict.{verdict}")})</span></span>'
        f'<span class="figure">{escape(figure)}</span>{limit}{remedy}</li>'
    )


def _is_upper_bound(check: Mapping[str, Any]) -> bool:
    if check["code"] == "duration":
        return bool(check["threshold"] > 1.0) or bool(check["value"] > check["threshold"] * 10)
    return check["code"] in _AT_MOST


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "fraction":
        return f"{value:.2%}" if 0 < value < 0.1 else f"{value:.0%}"
    if unit in ("db", "dbfs"):
        return f"{value:.1f} {'dB' if unit == 'db' else 'dBFS'}".replace("-", "−")
    if unit == "hz":
        return f"{value / 1000:.3g} kHz" if value >= 1000 else f"{value:.0f} Hz"
    if unit == "s":
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{value:.2f}".replace("-", "−")


def player(report: Mapping[str, Any], base: str, inside: str) -> str:
    """A player whose position is a line over `inside`, where a click seeks."""
    duration_s = report["source"]["duration_s"]
    return f"""
<div class="player" data-duration="{duration_s:.3f}">
  <div class="player-head">
    <button type="button" class="play" data-play><i aria-hidden="true"></i>
      <span class="sr">{both("ui.play")}</span></button>
    <span class="clock"><b data-now>0.0 s</b> / {clock(duration_s)}</span>
    <span class="current" data-current aria-hidden="true"></span>
  </div>
  <div class="stack" data-seek role="slider" tabindex="0" aria-label="播放位置 / Position"
       aria-valuemin="0" aria-valuemax="{duration_s:.1f}" aria-valuenow="0">
    {inside}<i class="playhead" aria-hidden="true"></i>
  </div>
  {time_axis(duration_s)}
  <audio preload="metadata" src="{escape(base)}processed_audio.wav"></audio>
</div>"""


def waveform(report: Mapping[str, Any]) -> str:
    """The envelope: speech dark, the rest light, clipped peaks red."""
    picture = report["quality"]["picture"]
    low, high = picture["envelope_min"], picture["envelope_max"]
    columns = len(high)
    peak = max(max(high, default=0.0), -min(low, default=0.0), 1e-6)
    # Loud recordings are drawn against full scale; quiet ones are enlarged to be seen at all.
    scale = 48 / (1.0 if peak > 0.7 else peak / 0.9)
    top = [f"{i + 0.5:g} {50 - value * scale:.1f}" for i, value in enumerate(high)]
    bottom = [f"{i + 0.5:g} {50 - value * scale:.1f}" for i, value in enumerate(low)]
    outline = f"M{'L'.join(top + bottom[::-1])}Z"
    per_s = 1 / picture["column_s"]
    speech = "".join(
        f'<rect x="{start * per_s:.2f}" y="0" width="{(end - start) * per_s:.2f}" height="100"/>'
        for start, end in report["quality"]["speech"]
    )
    clipped = _clipped_columns(report)
    red = "".join(
        f'<path class="clipped" d="M{i + 0.5:g} 0V8M{i + 0.5:g} 92V100"/>' for i in clipped
    )
    note = both("ui.wave") + (f" · {both('ui.wave.clipping')}" if clipped else "")
    return f"""
<figure class="wave"><svg viewBox="0 0 {columns} 100" preserveAspectRatio="none" role="img"
  aria-labelledby="wave-note"><defs><clipPath id="speech">{speech}</clipPath></defs>
  <g class="speech">{speech}</g><path class="quiet" d="{outline}"/>
  <path class="voice" d="{outline}" clip-path="url(#speech)"/>{red}</svg>
  <figcaption id="wave-note" class="sr">{note}</figcaption></figure>"""


def _clipped_columns(report: Mapping[str, Any]) -> list[int]:
    """Columns at the clipping level, where the check found clipping at all."""
    facts = report["quality"]
    verdicts = {one["code"]: one["verdict"] for one in facts["checks"]}
    if verdicts.get("clipping") not in ("warn", "fail"):
        return []
    picture = facts["picture"]
    low, high = np.asarray(picture["envelope_min"]), np.asarray(picture["envelope_max"])
    # The envelope is of the resampled signal, whose flat tops ripple by a few percent.
    level = 0.97 * max(float(high.max()), -float(low.min()))
    return np.flatnonzero((high >= level) | (low <= -level)).tolist()


def time_axis(duration_s: float) -> str:
    """Ticks under a picture that is as wide as `duration_s`."""
    steps = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
    step = next((one for one in steps if duration_s / one <= 7), 1800)
    ticks = []
    at = 0.0
    while at <= duration_s:
        label = f"{at:g}" if duration_s < 60 else f"{at // 60:.0f}:{at % 60:02.0f}"
        ticks.append(f'<span style="left:{at / duration_s:.2%}">{label}</span>')
        at += step
    return f'<div class="axis" aria-hidden="true">{"".join(ticks)}</div>'


def spectrum(report: Mapping[str, Any]) -> str:
    """Mean power over frequency, with the two bands that carry most of the emotion marked."""
    picture = report["quality"]["picture"]
    levels = np.asarray(picture["spectrum_db"], dtype=float)
    if not len(levels):
        return ""
    top = float(levels.max())
    y = np.clip((top - levels) / 80 * 100, 0, 100)
    points = "L".join(f"{hz:.0f} {v:.1f}" for hz, v in zip(picture["spectrum_hz"], y, strict=True))
    last = picture["spectrum_hz"][-1]
    first = picture["spectrum_hz"][0]
    axis = "".join(
        f'<span style="left:{khz / 8:.2%}">{khz} {"kHz" if khz else ""}</span>'
        for khz in (0, 2, 4, 6)
    )
    return f"""
<details class="spectrum"><summary>{both("ui.quality.spectrum")}</summary>
  <svg viewBox="0 0 8000 100" preserveAspectRatio="none" aria-hidden="true">
  <rect class="band" x="100" width="200" height="100"/>
  <rect class="band" x="2000" width="2000" height="100"/>
  <path d="M{first:.0f} 100L{points}L{last:.0f} 100Z"/></svg>
  <div class="axis">{axis}</div></details>"""


# --- emotion over time ----------------------------------------------------------------------------


def over_time(report: Mapping[str, Any], base: str) -> str:
    """Waveform, segments and the nine scores over time, on one axis with one player."""
    inside = waveform(report) + ribbon(report) + stacked_scores(report)
    weighted = report["weighted"]
    peak = weighted["peak"]
    best = max(weighted["scores"], key=weighted["scores"].__getitem__)
    facts = (
        f'<button type="button" class="chip" data-at="{peak["start_s"]:.2f}">'
        + _mark(peak["emotion"])
        + each(
            lambda lang: texts.text(
                "ui.time.peak",
                lang,
                emotion=texts.text(f"emotion.{peak['emotion']}", lang),
                percent=_percent(peak["score"]),
                start=clock(peak["start_s"]),
                end=clock(peak["end_s"]),
            )
        )
        + f'</button><span class="chip">{_mark(best)}'
        + each(
            lambda lang: texts.text(
                "ui.time.weighted",
                lang,
                emotion=texts.text(f"emotion.{best}", lang),
                percent=_percent(weighted["scores"][best]),
            )
        )
        + "</span>"
    )
    body = (
        player(report, base, inside)
        + legend(report["utterance_scores"])
        + f'<div class="chips">{facts}</div><p class="muted">{both("ui.time.hint")}</p>'
    )
    return _card(both("ui.time"), body, name="time")


def ribbon(report: Mapping[str, Any]) -> str:
    """One coloured piece per segment; the emoji where there is room."""
    duration_s = report["source"]["duration_s"]
    drawn = []
    for start_s, end_s, emotion in _pieces(report["segments"], duration_s):
        width = (end_s - start_s) / duration_s
        mark = EMOJI[emotion] if width > 0.05 else ""
        drawn.append(
            f'<i class="e-{emotion}" style="left:{start_s / duration_s:.3%};'
            f'width:{width:.3%}">{mark}</i>'
        )
    return f'<div class="ribbon" aria-hidden="true">{"".join(drawn)}</div>'


def _pieces(
    segments: Sequence[Mapping[str, Any]], duration_s: float
) -> Iterable[tuple[float, float, str]]:
    """The segments as (start, end, emotion); of too many, what fills most of each slot of time."""
    if len(segments) <= MAX_COLUMNS:
        return [(one["start_s"], one["end_s"], one["emotion"]) for one in segments]
    # Eight looks into each slot: the emotion seen most often stands for it.
    looks = 8
    at = (np.arange(MAX_COLUMNS * looks) + 0.5) * duration_s / (MAX_COLUMNS * looks)
    ends = [one["end_s"] for one in segments]
    index = np.minimum(np.searchsorted(ends, at), len(segments) - 1).reshape(-1, looks)
    leaders = []
    for slot in index:
        seen = [segments[i]["emotion"] for i in slot]
        leaders.append(max(seen, key=seen.count))
    slot_s = duration_s / MAX_COLUMNS
    runs = []
    start = 0
    for emotion, run in itertools.groupby(leaders):
        end = start + len(list(run))
        runs.append((start * slot_s, end * slot_s, emotion))
        start = end
    return runs


def stacked_scores(report: Mapping[str, Any]) -> str:
    """The nine scores over time as stacked areas: the report's smoothed curve."""
    columns = np.asarray(report["curve"]["scores"])
    labels = report["labels"]
    # The largest at the bottom: its edge is then a plain curve, easiest to read.
    order = np.argsort(-columns.mean(axis=0), kind="stable")
    n = len(columns)
    # Each column reaches from edge to edge of the chart also when there is only one.
    x = np.linspace(0, 1000, n) if n > 1 else np.array([0.0, 1000.0])
    heights = columns if n > 1 else np.repeat(columns, 2, axis=0)
    base = np.zeros(len(x))
    areas = []
    for index in order:
        top = base + heights[:, index]
        upper = [f"{a:.0f} {200 - 200 * b:.0f}" for a, b in zip(x, top, strict=True)]
        lower = [f"{a:.0f} {200 - 200 * b:.0f}" for a, b in zip(x, base, strict=True)]
        areas.append(f'<path class="e-{labels[index]}" d="M{"L".join(upper + lower[::-1])}Z"/>')
        base = top
    return (
        '<svg class="areas" viewBox="0 0 1000 200" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(areas)}</svg>"
    )


def legend(scores: Mapping[str, float]) -> str:
    """The emotions that are worth a name, with colour and score."""
    named = [one for one in sorted(scores, key=lambda e: -scores[e]) if scores[one] >= LEGEND_FROM]
    items = "".join(
        f'<li><i class="key e-{one}" aria-hidden="true"></i>{marked_emotion(one)}'
        f" {_percent(scores[one])}</li>"
        for one in named
    )
    return f'<ul class="legend">{items}</ul>'


def segment_table(report: Mapping[str, Any]) -> str:
    """The stretches of one emotion."""
    return _table("ui.segments", report["segments"], with_band=False)


def utterance_table(report: Mapping[str, Any]) -> str:
    """Each stretch of speech recognised by itself; empty for a single sentence."""
    return _table("ui.utterances", report["utterances"], with_band=True)


def _table(title: str, rows: Sequence[Mapping[str, Any]], *, with_band: bool) -> str:
    if not rows:
        return ""
    columns = ["start", "end", "emotion", "confidence"] + (["band"] if with_band else [])
    head = "".join(f'<th scope="col">{both(f"ui.column.{one}")}</th>' for one in columns)
    body = []
    for row in rows[:MAX_ROWS]:
        band = ""
        if with_band:
            band = f"<td>{band_pill(row['band'])}</td>"
        start, end = row["start_s"], row["end_s"]
        body.append(
            f'<tr data-from="{start:.2f}" data-to="{end:.2f}" data-emotion="{row["emotion"]}">'
            f'<td><button type="button" class="link" data-at="{start:.2f}">{clock(start)}</button>'
            f'</td><td>{clock(end)}</td><td><i class="key e-{row["emotion"]}" aria-hidden="true">'
            f"</i>{marked_emotion(row['emotion'])}</td><td>{_percent(row['confidence'])}</td>{band}</tr>"
        )
    left_out = len(rows) - MAX_ROWS
    more = (
        f'<p class="muted">{both("ui.rows_left_out", count=left_out)}</p>' if left_out > 0 else ""
    )
    table = (
        f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{more}"
    )
    aside = f'<span class="muted">{len(rows)}</span>'
    return _card(both(title), table, aside=aside)


# --- robustness test ------------------------------------------------------------------------------


def stress_count() -> int:
    """How often the robustness test recognises the clip besides the clean one."""
    return len(damage.conditions()) - 1


def stress_progress(name: str, step: str, share: float, seconds: float, status: Status) -> str:
    """How far the robustness test is; arguments as of `progress`."""
    total = stress_count() + 1
    if step == "inference":
        words = both("ui.stress.done", done=round(share * total), total=total)
    elif step == "model" and status.answering is None:
        words = _model_words(status)
    else:
        words = both("ui.stress.prepare")
    bar = (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share * 100:.0f}"><i style="width:{share:.1%}"></i></div>'
        if step == "inference"
        else '<div class="bar moving"><i></i></div>'
    )
    return (
        f'<section class="card running" role="status"><h2>{both("ui.stress.running", name=name)}'
        f"</h2>{bar}<p>{words}</p>"
        f'<p class="muted">{both("ui.running.seconds", seconds=seconds)} · '
        # The main cancel button may be out of sight down here.
        f'<button type="button" class="link" data-press="cancel">{both("ui.cancel")}</button></p>'
        "</section>"
    )


def stress(report: Mapping[str, Any]) -> str:
    """The robustness test: what it says in words, a plot over the noise level, every condition.

    Args:
        report: what `pipeline.Recogniser.stress` gives.
    """
    clean = report["outcomes"][0]
    body = (
        f'<ul class="sayings">{"".join(f"<li>{one}</li>" for one in _stress_sayings(report))}</ul>'
        + _stress_plot(report["outcomes"])
        + _stress_table(report["outcomes"])
        + f'<div class="chips">{_stress_file(report)}</div>'
        + f'<p class="muted">{both("robustness.noises")} '
        f"{both('ui.answered_by', model=report['model']['id'])}</p>"
    )
    lead = f"{marked_emotion(clean['emotion'])} {_percent(clean['confidence'])}"
    aside = f'<span class="stress-lead">{lead}</span>'
    return _card(both("robustness.title"), body, aside=aside, name="stress")


def _stress_sayings(report: Mapping[str, Any]) -> list[str]:
    """Where it flips, what codecs do, and what becomes of neutral: each a sentence."""
    sayings = []
    for kind, snr_db in report["flip_snr_db"].items():
        key = "robustness.holds" if snr_db is None else "robustness.flips_at"
        kind_name = texts.Phrase(f"robustness.{kind}")
        sayings.append(both(key, kind=kind_name, snr_db=snr_db or 0.0))
    sayings.append(_codec_saying(report))
    rises = {kind: _points(rise) for kind, rise in report["neutral_rise"].items()}
    sayings.append(both("robustness.neutral", **rises))
    if report["used_s"] < report["source"]["duration_s"] - 0.5:
        sayings.append(both("robustness.first_part", seconds=report["used_s"]))
    if report["model"]["id"] == "compact":
        sayings.append(both("caveat.compact_model"))
    return sayings


def _codec_saying(report: Mapping[str, Any]) -> str:
    flipped = [f"robustness.{code}" for code in report["flipped_codes"]]
    if not flipped:
        return both("robustness.codecs_hold")

    def words(lang: str) -> str:
        names = texts.text("list.join", lang).join(texts.text(key, lang) for key in flipped)
        return texts.text("robustness.codecs_flip", lang, names=names)

    return each(words)


def _stress_plot(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """The clean leader's score over the falling SNR, and below it who leads at each level.

    Lines are stretched to the width there is; words and marks are laid over them as HTML, which
    keeps its size on a phone.
    """
    clean = outcomes[0]
    lead, start = clean["emotion"], clean["confidence"]
    noisy = {kind: [one for one in outcomes if one["condition"]["kind"] == kind] for kind in NOISES}
    n = len(damage.SNRS_DB)
    zone = sum(snr_db >= damage.LOW_SNR_BELOW_DB for snr_db in damage.SNRS_DB) / n
    lines = "".join(_stress_line(kind, rows, lead) for kind, rows in noisy.items())
    marks = "".join(_stress_marks(kind, rows, noisy, lead) for kind, rows in noisy.items())
    levels = "".join(f'<span style="top:{100 - at}%">{at}%</span>' for at in (100, 50, 0))
    ticks = "".join(f"<span>{snr_db:.0f}</span>" for snr_db in damage.SNRS_DB)
    keys = "".join(
        f'<li><i class="stress-key {kind}" aria-hidden="true"></i>{both(f"robustness.{kind}")}</li>'
        for kind in (*NOISES, "clean")
    )
    lanes = "".join(
        f'<span class="lane-name">{both(f"robustness.{kind}.short")}</span>'
        f'<div class="lane">{_lane(rows)}</div>'
        for kind, rows in noisy.items()
    )
    emotion = texts.Phrase(f"emotion.{lead}")
    return f"""
<h4>{both("robustness.plot", emotion=emotion)}</h4><ul class="legend">{keys}</ul>
<figure class="stress-plot"><div class="levels" aria-hidden="true">{levels}</div>
  <div class="field" role="img" aria-labelledby="stress-note">
    <div class="zone" style="left:{zone:.2%}"><span>{both("robustness.unstable")}</span></div>
    <svg viewBox="0 0 {n * 100} 100" preserveAspectRatio="none" aria-hidden="true">
    <path class="grid" d="M0 0H{n * 100}M0 50H{n * 100}M0 100H{n * 100}"/>
    <path class="clean" d="M0 {100 - 100 * start:.1f}H{n * 100}"/>{lines}</svg>{marks}
  </div>
  <div class="ticks" aria-hidden="true">{ticks}</div>
  <p class="ticks-name">{both("robustness.axis")}</p>{lanes}
  <figcaption id="stress-note" class="sr">{_stress_note(noisy, lead, start)}</figcaption>
</figure>"""


def _stress_note(noisy: Mapping[str, Sequence[Mapping[str, Any]]], lead: str, start: float) -> str:
    """The plot for who cannot see it: where each line starts and ends."""
    facts = {kind: _percent(rows[-1]["scores"][lead]) for kind, rows in noisy.items()}
    emotion = texts.Phrase(f"emotion.{lead}")
    return both("robustness.note", emotion=emotion, clean=_percent(start), **facts)


def _stress_line(kind: str, rows: Sequence[Mapping[str, Any]], lead: str) -> str:
    points = (f"{100 * i + 50} {100 - 100 * one['scores'][lead]:.1f}" for i, one in enumerate(rows))
    return f'<path class="line {kind}" d="M{"L".join(points)}"/>'


def _stress_marks(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    noisy: Mapping[str, Sequence[Mapping[str, Any]]],
    lead: str,
) -> str:
    """A dot where the leader holds; where it flips, the face of who leads instead."""
    marks = []
    for i, one in enumerate(rows):
        score = one["scores"][lead]
        beside = [
            other["scores"][lead]
            for name, others in noisy.items()
            for other in others[i : i + 1]
            if name != kind and other["flipped"]
        ]
        # Two faces at nearly the same place step aside; a dot may lie under a face.
        aside = " aside" if one["flipped"] and any(abs(b - score) < NEAR for b in beside) else ""
        face = EMOJI[one["emotion"]] if one["flipped"] else ""
        marks.append(
            f'<i class="mark {kind}{" flip" if face else ""}{aside}" aria-hidden="true" '
            f'style="left:{(i + 0.5) / len(rows):.2%};top:{1 - score:.1%}">{face}</i>'
        )
    return "".join(marks)


def _lane(rows: Sequence[Mapping[str, Any]]) -> str:
    """Who leads at each noise level; neighbours with the same leader are one piece."""
    pieces = []
    for (emotion, flipped), run in itertools.groupby(
        rows, key=lambda one: (one["emotion"], one["flipped"])
    ):
        width = len(list(run))
        pieces.append(
            f'<span class="piece{" flip" if flipped else ""}" style="grid-column:span {width};'
            f'--e:var(--e-{emotion})"><i class="emoji" aria-hidden="true">{EMOJI[emotion]}</i>'
            f"<b>{both(f'emotion.{emotion}')}</b></span>"
        )
    return "".join(pieces)


def _stress_table(outcomes: Sequence[Mapping[str, Any]]) -> str:
    clean = outcomes[0]
    emotion = texts.Phrase(f"emotion.{clean['emotion']}")
    head = "".join(
        f'<th scope="col">{words}</th>'
        for words in (
            both("robustness.column.condition"),
            both("robustness.column.leader"),
            both("robustness.column.score"),
            both("robustness.column.change", emotion=emotion),
            f'<span class="sr">{both("robustness.flipped")}</span>',
        )
    )
    rows = "".join(_stress_row(one) for one in outcomes[1:])
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead>'
        f'<tbody class="reference"><tr>{_stress_cells(clean)}</tr></tbody>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _stress_row(outcome: Mapping[str, Any]) -> str:
    flip = " class=flip" if outcome["flipped"] else ""
    return f'<tr data-code="{outcome["condition"]["code"]}"{flip}>{_stress_cells(outcome)}</tr>'


def _stress_cells(outcome: Mapping[str, Any]) -> str:
    condition = outcome["condition"]
    name = f'<th scope="row">{_condition(condition)}</th>'
    if outcome["error"]:
        why = escape(outcome["error"])
        return (
            f'{name}<td colspan="4" class="muted" title="{why}">{both("robustness.missing")}</td>'
        )
    flip = ""
    if outcome["flipped"]:
        flip = (
            f'<span class="flip-mark"><span aria-hidden="true">≠</span> '
            f"<span>{both('robustness.flip')}</span></span>"
        )
    change = "" if condition["kind"] == "clean" else _points(outcome["delta"])
    return (
        f"{name}<td>{marked_emotion(outcome['emotion'])}</td><td>{_percent(outcome['confidence'])}</td>"
        f"<td>{change}</td><td>{flip}</td>"
    )


def _condition(condition: Mapping[str, Any]) -> str:
    if condition["snr_db"] is None:
        return both(f"robustness.{condition['code']}")
    kind = texts.Phrase(f"robustness.{condition['kind']}.short")
    return both("robustness.noise", kind=kind, snr_db=condition["snr_db"])


def _points(share: float) -> str:
    """A change of a share, in points of a hundred, with its sign."""
    # + 0.0: no negative zero.
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


def _stress_file(report: Mapping[str, Any]) -> str:
    """All figures as a download that is in the page itself: nothing is kept on the server."""
    data = json.dumps(report, ensure_ascii=False, indent=1).encode()
    name = f"{PurePath(report['source']['name']).stem}_robustness.json"
    return (
        f'<a class="chip" download="{escape(name)}" '
        f'href="data:application/json;base64,{base64.b64encode(data).decode()}">'
        f'{escape(name)} <span class="muted">{megabytes(len(data))}</span></a>'
    )


# --- files, log, details --------------------------------------------------------------------------


def downloads(report: Mapping[str, Any], base: str, files: Iterable[tuple[str, int]]) -> str:
    """Every file of the result, everything as zip, and other programs' formats."""
    links = "".join(
        f'<a class="chip" href="{escape(base + name)}" download="{escape(name)}">'
        f'{escape(name)} <span class="muted">{megabytes(size)}</span></a>'
        for name, size in files
    )
    rows = [("", links + _export_chip("zip", both("ui.files.zip")))]
    formats = {"csv": "CSV"}
    title = "ui.files.export"
    if report["granularity"] == "frame":
        formats |= {"srt": "SRT", "vtt": "WebVTT"}
        formats |= {"textgrid": "Praat TextGrid", "audacity": "Audacity"}
        title = "ui.files.segments"
    rows.append((title, "".join(_export_chip(kind, name) for kind, name in formats.items())))
    if report.get("utterances"):
        sentences = (_export_chip(f"sentences-{kind}", formats[kind]) for kind in ("csv", "srt"))
        rows.append(("ui.files.sentences", "".join(sentences)))
    body = "".join(
        (f"<h4>{both(key)}</h4>" if key else "") + f'<div class="chips">{chips}</div>'
        for key, chips in rows
    )
    return _card(both("ui.files"), body)


def _export_chip(kind: str, words: str) -> str:
    return f'<button type="button" class="chip" data-press="export-{kind}">{words}</button>'


def embedding(facts: Mapping[str, Any]) -> str:
    """What embedding.npy holds, and whether its norm is usual."""
    shape = " × ".join(str(one) for one in facts["shape"])
    usual = facts["norm_range"]
    verdict = both(f"ui.norm.{facts['norm_verdict']}")
    article = both(f"ui.norm.{facts['article_verdict']}")
    rows = [
        ("ui.embedding.shape", f"({shape}) {escape(facts['dtype'])}"),
        ("ui.embedding.norm", f"<b>{facts['norm']:.3f}</b>"),
        (
            "ui.embedding.range",
            f"{usual[0]:.2f}-{usual[1]:.2f}: {verdict}"
            if usual
            else both("ui.embedding.unmeasured"),
        ),
        (
            "ui.embedding.article",
            f"{facts['article_range'][0]:g}-{facts['article_range'][1]:g}: {article}",
        ),
    ]
    return _card(both("ui.embedding.title"), _definitions(rows))


def log(report: Mapping[str, Any]) -> str:
    """The processing log; its fixed lines as they are, its notes in both languages."""
    timing, source = report["timing"], report["source"]
    notes = scoring.log_notes(
        model_load_s=timing["model_load_s"] or None,
        inference_s=timing["inference_s"],
        duration_s=source["duration_s"],
        source_rate_hz=source["sample_rate"],
    )
    fixed = len(report["log"]) - len(notes)
    lines = [escape(line) for line in report["log"][:fixed]]
    lines += [both(f"note.{one.code}", value=one.value, limit=one.limit) for one in notes]
    return _card(both("ui.log"), f'<pre class="log">{chr(10).join(lines)}</pre>')


def details(report: Mapping[str, Any]) -> str:
    """Where the answer comes from: model, file, timing."""
    model, source, timing = report["model"], report["source"], report["timing"]
    distribution = report["distribution"]
    weights = model["weights_sha256"]
    rows = [
        ("ui.details.model", f"{escape(model['id'])} ({escape(model['origin'])})"),
        ("ui.details.device", escape(f"{model['device']}, {model['precision']}")),
        ("ui.details.weights", f"<code>{escape(weights[:16])}…</code>" if weights else "–"),
        ("ui.details.file", f"{escape(source['name'])} · {megabytes(source['bytes'])}"),
        (
            "ui.details.format",
            escape(
                f"{source['container']} {source['codec']}, {source['sample_rate']} Hz, "
                f"{source['channels']} ch, {source['duration_s']:.2f} s"
            ),
        ),
        (
            "ui.details.timing",
            both(
                "ui.details.timing.value",
                decode=timing["decode_s"],
                inference=timing["inference_s"],
                total=timing["total_s"],
            ),
        ),
        (
            "ui.details.entropy",
            both(
                "ui.details.entropy.value",
                bits=distribution["entropy"],
                percent=f"{distribution['entropy_normalised']:.0%}",
            ),
        ),
    ]
    return (
        f'<details class="card fold"><summary>{both("ui.details")}</summary>'
        f"{_definitions(rows)}</details>"
    )


def _definitions(rows: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{both(key)}</dt><dd>{value}</dd>" for key, value in rows)
    return f"<dl>{items}</dl>"
