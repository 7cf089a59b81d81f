"""What to find among past results, and the SQL condition that finds it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from emotion2vec_ui.errors import BadField
from emotion2vec_ui.labels import EMOTIONS
from emotion2vec_ui.records.report import BANDS, is_time

QUALITIES = ("good", "fair", "poor")
NONE = "none"
"""Stands for "not known" among quality verdicts: results of the first WebUI have none."""

MAX_LIMIT = 1000

# `number` is the folder's suffix: _2 comes before _10.
SORTS = {
    "newest": "timestamp DESC, number DESC",
    "oldest": "timestamp, number",
    "confidence": "confidence DESC, timestamp DESC, number DESC",
    "confidence_low": "confidence, timestamp DESC, number DESC",
    "name": "name_folded, timestamp DESC, number DESC",
    "duration": "duration_s DESC, timestamp DESC, number DESC",
}


class Filters(BaseModel):
    """What to find. Within a field any of its values fits; the fields must all fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    emotion: tuple[str, ...] = Field((), description=f"Any of {', '.join(EMOTIONS)}.")
    band: tuple[str, ...] = Field((), description=f"Any of {', '.join(BANDS)}.")
    quality: tuple[str, ...] = Field((), description=f"Any of {', '.join((*QUALITIES, NONE))}.")
    model: tuple[str, ...] = Field((), description="Model ids.")
    text: str = Field("", description="Part of the file name, in any case.")
    date_from: str = Field("", description="YYYY-MM-DD, included.")
    date_to: str = Field("", description="YYYY-MM-DD, included.")
    sort: str = Field("newest", description=f"One of {', '.join(SORTS)}.")
    limit: int = Field(50, description=f"Rows, 1 to {MAX_LIMIT}.")
    offset: int = Field(0, description="Rows to skip.")

    @model_validator(mode="after")
    def _known_values_only(self) -> Filters:
        for field, allowed in (
            ("emotion", EMOTIONS),
            ("band", BANDS),
            ("quality", (*QUALITIES, NONE)),
        ):
            for value in getattr(self, field):
                _check(field, value, allowed)
        _check("sort", self.sort, tuple(SORTS))
        for field in ("date_from", "date_to"):
            _check_date(field, getattr(self, field))
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadField(field="limit", value=str(self.limit), allowed=f"1-{MAX_LIMIT}")
        if not 0 <= self.offset < 2**31:
            raise BadField(field="offset", value=str(self.offset), allowed="0-")
        return self


def where_clause(filters: Filters) -> tuple[str, list[str]]:
    """The condition with a `?` for each value, and the values."""
    terms: list[str] = ["NOT damaged"]
    values: list[str] = []
    for column in ("emotion", "band", "quality", "model"):
        wanted = list(getattr(filters, column))
        if wanted:
            marks = ", ".join("?" * len(wanted))
            # A column that knows nothing (NULL) is found under its own word.
            terms.append(f"ifnull({column}, '{NONE}') IN ({marks})")
            values += wanted
    if filters.text:
        # instr, not LIKE: % and _ are ordinary letters of file names.
        terms.append("instr(name_folded, ?) > 0")
        values.append(storable(filters.text).casefold())
    if filters.date_from:
        terms.append("timestamp >= ?")
        values.append(filters.date_from)
    if filters.date_to:
        terms.append("timestamp <= ?")
        values.append(f"{filters.date_to} 23:59:59")
    return " AND ".join(terms), values


def _check(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise BadField(field=field, value=repr(value)[:100], allowed=", ".join(allowed))


def _check_date(field: str, value: str) -> None:
    if value and not is_time(value, "%Y-%m-%d"):
        raise BadField(field=field, value=repr(value)[:100], allowed="YYYY-MM-DD")


def storable(value: str) -> str:
    """As text that can be stored: half of a surrogate pair cannot."""
    return value.encode("utf-8", "replace").decode()
