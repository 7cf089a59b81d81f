"""Events of our pages: private, and without Gradio's own signs of progress."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def connect(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Any,
    outputs: Any,
    *,
    queue: bool,
    **options: Any,
) -> Any:
    """Connects an event of a component with its handler.

    Args:
        event: of the component, such as `button.click`.
        handler: what is to be done.
        inputs: components whose values it takes.
        outputs: components whose values it gives.
        queue: whether the event goes through Gradio's queue.
        **options: more of Gradio's own.

    Returns:
        Gradio's dependency, for what is to follow the event.
    """
    return event(
        handler,
        inputs,
        outputs,
        queue=queue,
        api_visibility="private",
        show_progress="hidden",
        **options,
    )


def last_of(handler: Callable[P, Iterator[T]]) -> Callable[P, T]:
    """The handler without its values on the way: what works without Gradio's queue."""

    # Gradio reads the signature, which `wraps` keeps, to know what to hand over.
    @functools.wraps(handler)
    def last(*args: P.args, **kwargs: P.kwargs) -> T:
        *_, value = handler(*args, **kwargs)
        return value

    return last
