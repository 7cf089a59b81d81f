"""pydantic's adapters of dataclasses: made when first used, once for each class."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

BUILDING = threading.Lock()
"""pydantic fails where two threads build the adapter of one class at once."""

_built: dict[type[Any], TypeAdapter[Any]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The adapter of a dataclass, between it and plain data."""
    from pydantic import TypeAdapter

    with BUILDING:
        if kind not in _built:
            _built[kind] = TypeAdapter(kind)
        return _built[kind]
