"""Rows of a job as the page asks for them."""

from __future__ import annotations

from emotion2vec_ui.batch.job_rows import RowFilter, select
from emotion2vec_ui.records.rows import Row


def row(path: str, emotion: str, confidence: float, duration_s: float, **more) -> Row:
    return Row(
        path=path, sha256="", status="ok", model="m", emotion=emotion, confidence=confidence,
        duration_s=duration_s, **{"band": "high", "quality": "good"} | more,
    )  # fmt: skip


ROWS = [
    row("A.wav", "happy", 0.9, 3.0),
    row("b/客户.wav", "sad", 0.6, 9.0, band="low", quality="poor"),
    Row(path="broken.wav", sha256=None, status="cannot_decode", model="m", error={"en": "no"}),
    row("d.wav", "happy", 0.7, 1.0, band="medium"),
]


def found(offset: int = 0, limit: int = 50, **wanted) -> list[str]:
    return [one.path for one in select(ROWS, RowFilter(**wanted), offset=offset, limit=limit).rows]


def test_each_filter_narrows():
    assert found() == ["A.wav", "b/客户.wav", "broken.wav", "d.wav"]
    assert found(emotion=("happy",)) == ["A.wav", "d.wav"]
    assert found(emotion=("happy", "sad"), band=("low", "medium")) == ["b/客户.wav", "d.wav"]
    assert found(quality=("poor",)) == ["b/客户.wav"]
    assert found(result=("error",)) == ["broken.wav"]
    assert found(result=("ok",), text="A.WAV") == ["A.wav"]
    assert found(text="客户") == ["b/客户.wav"]


def test_each_order_is_as_named():
    assert found(sort="confidence") == ["A.wav", "d.wav", "b/客户.wav", "broken.wav"]
    assert found(sort="confidence_low") == ["b/客户.wav", "d.wav", "A.wav", "broken.wav"]
    assert found(sort="duration") == ["b/客户.wav", "A.wav", "d.wav", "broken.wav"]
    assert found(sort="errors")[0] == "broken.wav"


def test_pages_follow_each_other_and_the_counts_are_of_all():
    assert found(offset=0, limit=3) + found(offset=3, limit=3) == found()
    page = select(ROWS, RowFilter(text="broken"), offset=0, limit=1)
    assert (page.total, dict(page.counts)) == (1, {"happy": 2, "sad": 1})
