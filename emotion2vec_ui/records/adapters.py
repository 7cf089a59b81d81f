"""pydantic's adapters of dataclasses: made when first used, once for each class."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_building = threading.Lock()


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The adapter of a dataclass, between it and plain data."""
    # pydantic fails where two threads build the adapter of one class at once.
    with _building:
        built: TypeAdapter[T] = _built(kind)
        return built


@functools.cache
def _built(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
