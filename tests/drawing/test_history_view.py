"""The table of past results with its tools, and what is opened above it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from emotion2vec_ui.drawing.history_view import (
    opened_comparison,
    opened_result,
    result_list,
)
from emotion2vec_ui.drawing.render import View, draw
from emotion2vec_ui.records.filters import Filters
from emotion2vec_ui.records.index import History
from tests import past


@pytest.fixture
def history(tmp_path: Path):
    for day in range(1, 6):
        past.save(tmp_path, name=f"talk {day}.wav", timestamp=f"2026-01-{day:02} 10:00:00")
    found = History(tmp_path)
    yield found
    found.close()


def drawn(history: History, **filters) -> str:
    chosen = Filters(**filters)
    return draw(result_list(history.search(chosen), chosen), "en")


def offsets(html: str) -> list[str | None]:
    buttons = re.findall(r'<button [^>]*data-history="page"[^>]*>', html)
    found = [re.search('data-value="([0-9]+)"', one) for one in buttons]
    assert [one is None for one in found] == ["disabled" in one for one in buttons]
    return [one and one[1] for one in found]


def test_a_line_shows_the_result(history):
    html = drawn(history)
    assert re.findall('data-value="(outputs_[0-9_]+)"', html)[0] == "outputs_20260105_100000"
    line = re.search("<tr data-history.*?</tr>", html, re.S)[0]
    said = " ".join(re.sub("<[^>]+>", " ", line).split())
    assert (
        said
        == "Select talk 5.wav 2026-01-05 10:00 talk 5.wav Happy 90.0% High 5.2 s Whole clip compact"
    )


def test_only_what_the_built_in_model_says_is_marked_as_limited(history, tmp_path: Path):
    past.save(tmp_path, name="large.wav", model="large", timestamp="2026-01-09 10:00:00")
    first, second, *_ = re.findall('<td class="(c-band[^"]*)"', drawn(history))
    assert (first, second) == ("c-band", "c-band limited")


def test_an_old_result_shows_dashes_for_what_it_does_not_tell(tmp_path: Path):
    folder = past.save_old(tmp_path)
    history = History(tmp_path)
    html = drawn(history)
    history.close()
    assert (
        '<td class="c-duration">–</td>' in html and '<td class="c-model" title="–">–</td>' in html
    )
    assert f">{folder}</button>" in html


def test_pages_lead_to_each_other_and_not_beyond(history):
    assert offsets(drawn(history, limit=2)) == [None, "2"]
    assert offsets(drawn(history, limit=2, offset=2)) == ["0", "4"]
    assert offsets(drawn(history, limit=2, offset=4)) == ["2", None]
    assert "3 to 4 of 5" in drawn(history, limit=2, offset=2)
    assert offsets(drawn(history)) == []


def test_the_csv_has_the_filters_of_the_table(history):
    html = drawn(history, emotion=("happy", "sad"), text="<&", sort="oldest")
    address = re.search('href="(api/history.csv[^"]+)"', html)[1].replace("&amp;", "&")
    asked = parse_qs(urlsplit(address).query)
    assert asked["emotion"] == ["happy", "sad"]
    assert asked["text"] == ["<&"] and asked["sort"] == ["oldest"]


def test_nothing_found_and_nothing_there_are_told_apart(history, tmp_path: Path):
    assert "No result fits these filters." in drawn(history, text="nobody")
    empty = History(tmp_path / "empty")
    assert "There are no results yet." in drawn(empty, sort="oldest")
    empty.close()


def test_damaged_folders_are_counted(history, tmp_path: Path):
    past.save_content(tmp_path, b"{")
    history.refresh()
    assert "1 more folders are damaged" in drawn(history)


@dataclass(frozen=True)
class Result(View):
    """Stands for a result."""

    template: ClassVar[str] = "empty.html"


def test_the_bar_of_an_opened_result_names_it_and_asks_before_it_deletes():
    folder = "outputs_20260104_223000"
    html = draw(opened_result(past.report(name="客户<b>.wav"), folder, Result()), "en")
    assert '<b title="客户&lt;b&gt;.wav">客户&lt;b&gt;.wav</b>' in html
    assert re.search(f'href="result/{folder}"[^>]* data-lang-link', html)
    confirm = re.search(r'<details class="confirm">(.*?)</details>', html, re.S)[1]
    assert f'data-history="delete" data-value="{folder}"' in confirm
    assert html.count('data-history="delete"') == 1


def test_a_comparison_is_framed_under_its_own_address():
    html = draw(opened_comparison(("outputs_20260104_223000", "outputs_20260104_223000_2")), "en")
    address = "comparison?folder=outputs_20260104_223000&amp;folder=outputs_20260104_223000_2"
    assert f'data-history-frame="{address}"' in html and f'href="{address}"' in html
    assert 'aria-labelledby="comparison-title"' in html
