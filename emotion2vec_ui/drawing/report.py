"""One result, or several side by side, as a page to read, print and hand over.

A single HTML text in one language: style and drawings inline, no script, nothing fetched. The
drawings are those of `charts`, which writes both languages; here one of them is kept.
A result with only the fields of the first WebUI has a shorter report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from emotion2vec_ui import __version__, texts
from emotion2vec_ui.drawing import charts
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.reading import scoring
from emotion2vec_ui.records.store import now_text

if TYPE_CHECKING:
    from emotion2vec_ui.records.index import Comparison

STYLE = Path(__file__).parent / "templates" / "report.css"

MAX_SEGMENTS = 40
"""Rows of a table over time: two columns of twenty. The exports hold them all."""

_LANG_TAGS = {"zh": "zh-CN", "en": "en"}
# A text in one language as `charts.each` writes it: escaped, so no tag can be inside.
_SPAN = re.compile(r'<span class="(zh|en)" lang="[^"]*">([^<]*)</span>')
_LOGO = "".join(
    f'<rect x="{3 + 5 * i}" y="{16 - h}" width="3" height="{2 * h}" rx="1.5"/>'
    for i, h in enumerate((4, 9, 13, 7, 11, 5))
)


def render(
    report: Mapping[str, Any], *, lang: str, folder_name: str, audio_url: str | None = None
) -> str:
    """A result's page.

    Args:
        report: the content of a result.json, as `History.get` gives it.
        lang: "zh" or "en".
        folder_name: of the result; it stands on the page as its number.
        audio_url: where the page can play what the model heard; None on paper.
    """
    whole = "schema" in report
    in_frames = report["granularity"] == "frame"
    # Tables and charts over time may be empty, but never with an emotion unknown to the style.
    safe = dict(report) | {"segments": [], "utterances": []}
    if in_frames and whole:
        safe |= {name: _known_only(report[name]) for name in ("segments", "utterances")}
    scores = _scores(report)
    limits = _mind(_model_id(report), lang)
    parts = [
        _head(report, folder_name, lang),
        _player(audio_url, lang),
        _columns(_leader(safe, whole), charts.score_bars(scores, _margin(scores))),
    ]
    if whole:
        parts += [_over_time(safe, lang) if in_frames else "", _recording(safe)]
        parts.append(_columns(_facts(safe, lang), charts.log(safe) + limits))
    else:
        parts.append(limits)
    title = f"{_t('report.title', lang)} · {folder_name}"
    return _document(title, "".join(parts), lang, switch={} if audio_url else None)


def render_comparison(comparison: Comparison, *, lang: str) -> str:
    """Several results side by side, the first as the reference."""
    folders = [one.row.folder for one in comparison.results]
    parts = [
        _comparison_head(comparison, lang),
        _comparison_caveats(comparison, lang),
        _comparison_facts(comparison, lang),
        _comparison_scores(comparison, lang),
        _columns(_comparison_similarity(comparison, lang), _mind(None, lang)),
    ]
    title = _t("report.comparison", lang)
    return _document(title, "".join(parts), lang, switch={"folder": folders})


# --- the document ---------------------------------------------------------------------------------


def _document(
    title: str, body: str, lang: str, *, switch: Mapping[str, Sequence[str]] | None
) -> str:
    """The whole page.

    Args:
        title: of the window and of the PDF.
        body: HTML in both languages.
        lang: the one to keep.
        switch: parameters that the links to the other language repeat; None for no links.
    """
    style = STYLE.read_text(encoding="utf-8")
    nav = "" if switch is None else _language_links(switch, lang)
    foot = texts.text("report.foot", lang, version=__version__, time=now_text())
    return f"""<!DOCTYPE html>
<html lang="{_LANG_TAGS[lang]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{nav}<main>
{one_language(body, lang)}
<footer>{escape(foot)}</footer>
</main>
</body>
</html>
"""


def one_language(html: str, lang: str) -> str:
    """HTML of `charts` with the sentences of one language only, and everything unfolded."""
    kept = _SPAN.sub(lambda found: found[2] if found[1] == lang else "", html)
    # Paper cannot be unfolded.
    return kept.replace("<details", "<details open")


def _language_links(parameters: Mapping[str, Sequence[str]], lang: str) -> str:
    links = []
    for one, word in (("zh", "中文"), ("en", "English")):
        address = escape("?" + urlencode({**parameters, "lang": one}, doseq=True))
        current = ' aria-current="true"' if one == lang else ""
        links.append(f'<a href="{address}" lang="{_LANG_TAGS[one]}"{current}>{word}</a>')
    return f"<nav>{''.join(links)}<span>{_e('report.print', lang)}</span></nav>\n"


def _t(key: str, lang: str) -> str:
    return texts.text(key, lang)


def _e(key: str, lang: str, **facts: Any) -> str:
    return escape(texts.text(key, lang, **facts))


# --- one result -----------------------------------------------------------------------------------


def _head(report: Mapping[str, Any], folder_name: str, lang: str) -> str:
    name = (report.get("source") or {}).get("name") or folder_name
    return (
        f'<header><svg viewBox="0 0 34 32" aria-hidden="true">{_LOGO}</svg>'
        f"<div><h1>{_e('report.title', lang)}</h1><p>{escape(str(name))}</p></div>"
        f"<dl><dt>{_e('report.date', lang)}</dt><dd>{escape(report['timestamp'])}</dd>"
        f"<dt>{_e('report.number', lang)}</dt><dd>{escape(folder_name)}</dd></dl></header>"
    )


def _player(audio_url: str | None, lang: str) -> str:
    if audio_url is None:
        return ""
    label = _e("report.audio", lang)
    return (
        f'<audio controls preload="metadata" aria-label="{label}" '
        f'src="{escape(audio_url)}"></audio>'
    )


def _scores(report: Mapping[str, Any]) -> dict[str, float]:
    # Here and not in `history`, which would import numpy and SQLite for one line.
    from emotion2vec_ui.records.index import utterance_scores

    return utterance_scores(report)


def _margin(scores: Mapping[str, float]) -> float:
    first, second = sorted(scores.values(), reverse=True)[:2]
    return first - second


def _model_id(report: Mapping[str, Any]) -> str | None:
    return (report.get("model") or {}).get("id")


def _leader(report: Mapping[str, Any], whole: bool) -> str:
    """The main result; from an old report, what follows from its scores alone."""
    if whole:
        return charts.leader(report)
    reading = scoring.read(_scores(report), quality_verdict=None, built_in=False)
    leading = [{"emotion": one, "score": _scores(report)[one]} for one in reading.leading]
    filled = dict(report) | {
        "reliability": {"band": reading.band, "advice_code": reading.advice},
        "distribution": {
            "shape": reading.shape,
            "mixture": reading.mixture or None,
            "leading": leading,
        },
        "warnings": [],
        "model": {"id": _model_id(report) or "?"},
    }
    return charts.leader(filled)


def _recording(report: Mapping[str, Any]) -> str:
    """The picture of the recording above its checks."""
    duration_s = report["source"]["duration_s"]
    picture = f'<div class="picture">{charts.waveform(report)}{charts.time_axis(duration_s)}</div>'
    card = charts.quality(report)
    # The picture stands between the card's head and its checks.
    before, head_end, after = card.partition("</h3>")
    aside, div_end, checks = after.partition("</div>")
    return before + head_end + aside + div_end + picture + checks


def _over_time(report: Mapping[str, Any], lang: str) -> str:
    """The scores over time with their segments, then the table of sentences or of segments."""
    duration_s = report["source"]["duration_s"]
    weighted = report["weighted"]
    best = max(weighted["scores"], key=weighted["scores"].__getitem__)
    facts = _e(
        "report.time.weighted",
        lang,
        emotion=_t(f"emotion.{best}", lang),
        percent=f"{weighted['scores'][best]:.1%}",
    )
    areas = charts.stacked_scores(report) if "curve" in report else ""
    chart = (
        f'<section class="card time"><div class="card-head"><h3>{_e("ui.time", lang)}</h3>'
        f'<span class="muted">{facts}</span></div>{charts.ribbon(report)}'
        f"{areas}{charts.time_axis(duration_s)}"
        f"{charts.legend(report['utterance_scores'])}</section>"
    )
    # Sentences say more than segments where there are both; one table keeps to the page.
    spoken = report["utterances"]
    rows = spoken or report["segments"]
    title = "ui.utterances" if spoken else "ui.segments"
    return chart + _time_table(title, rows, lang)


def _time_table(title: str, rows: Sequence[Mapping[str, Any]], lang: str) -> str:
    shown = "".join(
        f'<li><span class="when">{charts.clock(row["start_s"])} – {charts.clock(row["end_s"])}'
        f'</span><span class="what"><i class="key e-{row["emotion"]}"></i>'
        f"{_e('emotion.' + row['emotion'], lang)}</span>"
        f'<span class="figure">{row["confidence"]:.1%}</span></li>'
        for row in rows[:MAX_SEGMENTS]
    )
    left_out = len(rows) - MAX_SEGMENTS
    more = ""
    if left_out > 0:
        more = f'<p class="muted">{_e("report.more_rows", lang, count=left_out)}</p>'
    return (
        f'<section class="card spans"><div class="card-head"><h3>{_e(title, lang)}</h3>'
        f'<span class="muted">{len(rows)}</span></div><ol>{shown}</ol>{more}</section>'
    )


def _known_only(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(row) | {"emotion": _known(row["emotion"])} for row in rows]


def _known(emotion: Any) -> str:
    return emotion if emotion in EMOTIONS else "unknown"


def _facts(report: Mapping[str, Any], lang: str) -> str:
    source, model, timing = report["source"], report["model"], report["timing"]
    weights = model["weights_sha256"]
    rows: list[tuple[str, str]] = [
        ("ui.details.file", source["name"]),
        ("report.sha256", source["sha256"]),
        (
            "ui.details.format",
            f"{source['container']} {source['codec']}, {source['sample_rate']} Hz, "
            f"{source['channels']} ch, {charts.megabytes(source['bytes'])}",
        ),
        ("check.duration", f"{source['duration_s']:.2f} s"),
        ("report.granularity", report["granularity"]),
        ("ui.details.model", f"{model['id']} ({model['origin']})"),
        ("ui.details.weights", weights or "–"),
        ("ui.details.device", f"{model['device']}, {model['precision']}"),
        (
            "ui.details.timing",
            texts.text(
                "ui.details.timing.value",
                lang,
                decode=timing["decode_s"],
                inference=timing["inference_s"],
                total=timing["total_s"],
            ),
        ),
    ]
    if report["embedding"]:
        facts = report["embedding"]
        shape = " × ".join(str(one) for one in facts["shape"])
        rows.append(("ui.embedding.title", f"{shape} {facts['dtype']}, L2 {facts['norm']:.3f}"))
    return _card(_e("report.facts", lang), _definitions(rows, lang), "facts")


def _mind(model: str | None, lang: str) -> str:
    """What such a result can and cannot say; it belongs on every copy that is handed over."""
    keys = ["report.mind.errs", "report.mind.lies", "report.mind.person"]
    if model is not None:
        keys.append("report.licence.compact" if model == "compact" else "report.licence")
    items = "".join(f"<li>{_e(key, lang)}</li>" for key in keys)
    return _card(_e("report.mind", lang), f"<ul>{items}</ul>", "limits")


def _columns(left: str, right: str) -> str:
    return f'<div class="columns"><div>{left}</div><div>{right}</div></div>'


def _card(title: str, body: str, name: str = "") -> str:
    head = f'<div class="card-head"><h3>{title}</h3></div>'
    return f'<section class="card {name}">{head}{body}</section>'


def _definitions(rows: Iterable[tuple[str, str]], lang: str) -> str:
    items = "".join(f"<dt>{_e(key, lang)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
    return f"<dl>{items}</dl>"


# --- several results ------------------------------------------------------------------------------


def _mark(emotion: str) -> str:
    return f'<span class="emoji" aria-hidden="true">{charts.EMOJI[emotion]}</span>'


def _letter(number: int) -> str:
    return "ABCDEFGH"[number]


def _comparison_head(comparison: Comparison, lang: str) -> str:
    count = _e("report.comparison.count", lang, count=len(comparison.results))
    return (
        f'<header><svg viewBox="0 0 34 32" aria-hidden="true">{_LOGO}</svg>'
        f"<div><h1>{_e('report.comparison', lang)}</h1><p>{count}</p></div></header>"
    )


def _comparison_caveats(comparison: Comparison, lang: str) -> str:
    if not comparison.caveats:
        return ""
    items = "".join(f"<li>{_e(f'history.caveat.{one}', lang)}</li>" for one in comparison.caveats)
    return f'<div class="mind"><ul>{items}</ul></div>'


def _comparison_facts(comparison: Comparison, lang: str) -> str:
    """One column per result."""
    columns = comparison.results

    def line(key: str, cells: Iterable[str]) -> str:
        return f'<tr><th scope="row">{_e(key, lang)}</th>{"".join(cells)}</tr>'

    def plain(values: Iterable[Any]) -> list[str]:
        return [f"<td>{escape(str(one)) if one not in (None, '') else '–'}</td>" for one in values]

    head = "".join(
        f'<th scope="col"><b class="letter l{i}">{_letter(i)}</b>{escape(one.row.name or "–")}</th>'
        for i, one in enumerate(columns)
    )
    rows = [
        line(
            "ui.column.emotion",
            (
                f'<td class="big">{_mark(one.row.emotion)}'
                f"{_e(f'emotion.{one.row.emotion}', lang)}</td>"
                for one in columns
            ),
        ),
        line("ui.column.confidence", plain(f"{one.row.confidence:.1%}" for one in columns)),
        line("ui.column.band", (f"<td>{charts.band_pill(one.row.band)}</td>" for one in columns)),
        line(
            "ui.quality",
            plain(
                texts.text(f"ui.quality.{one.row.quality}", lang) if one.row.quality else None
                for one in columns
            ),
        ),
        line(
            "check.duration",
            plain(
                None if one.row.duration_s is None else f"{one.row.duration_s:.2f} s"
                for one in columns
            ),
        ),
        line("report.granularity", plain(one.row.granularity for one in columns)),
        line("ui.details.model", plain(one.row.model for one in columns)),
        line("report.date", plain(one.row.timestamp for one in columns)),
        line("report.number", plain(one.row.folder for one in columns)),
    ]
    table = (
        f'<div class="wide"><table class="sides"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return _card(_e("report.comparison.results", lang), table)


def _comparison_scores(comparison: Comparison, lang: str) -> str:
    """Per emotion a bar for each result, with the difference from the first."""
    columns = comparison.results
    order = sorted(EMOTIONS, key=lambda one: -max(c.scores[one] for c in columns))
    groups = []
    for emotion in order:
        bars = "".join(
            f'<li><b class="letter l{i}">{_letter(i)}</b><span class="track">'
            f'<i class="l{i}" style="width:{one.scores[emotion]:.2%}"></i></span>'
            f'<span class="figure">{one.scores[emotion]:.1%}</span>'
            f'<span class="delta">{_points(one.differences[emotion]) if i else ""}</span></li>'
            for i, one in enumerate(columns)
        )
        groups.append(
            f'<div class="group"><h4>{_mark(emotion)}{_e(f"emotion.{emotion}", lang)}</h4>'
            f"<ol>{bars}</ol></div>"
        )
    note = f'<p class="muted">{_e("report.comparison.points", lang)}</p>'
    return _card(_e("ui.scores", lang), f'<div class="groups">{"".join(groups)}</div>{note}')


def _points(difference: float) -> str:
    # No change is neither plus nor minus; minus is the sign, not the hyphen.
    shown = f"{difference * 100:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown.replace("-", "−")


def _comparison_similarity(comparison: Comparison, lang: str) -> str:
    """Distances of the scores, and cosines of the embeddings where any pair has both."""
    columns = comparison.results
    distances = "".join(
        f'<li><b class="letter l{i}">{_letter(i)}</b> {distance:.1%}</li>'
        for i, distance in enumerate(comparison.distances)
        if i
    )
    body = (
        f'<h4>{_e("report.comparison.distance", lang)}</h4><ul class="distances">{distances}</ul>'
    )
    pairs = [
        cell
        for i, row in enumerate(comparison.similarity)
        for j, cell in enumerate(row)
        if i != j and cell is not None
    ]
    if pairs:
        head = "".join(
            f'<th scope="col"><b class="letter l{i}">{_letter(i)}</b></th>'
            for i in range(len(columns))
        )
        rows = "".join(
            f'<tr><th scope="row"><b class="letter l{i}">{_letter(i)}</b></th>'
            + "".join(f"<td>{'–' if one is None else f'{one:.3f}'}</td>" for one in row)
            + "</tr>"
            for i, row in enumerate(comparison.similarity)
        )
        body += (
            f"<h4>{_e('report.comparison.cosine', lang)}</h4>"
            f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
    else:
        body += f'<p class="muted">{_e("report.comparison.no_cosine", lang)}</p>'
    return _card(_e("report.comparison.alike", lang), body)
