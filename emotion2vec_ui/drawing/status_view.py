"""What surrounds a result on the page, and what stands there before, while and instead of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import render
from emotion2vec_ui.drawing.figures import megabytes
from emotion2vec_ui.drawing.render import View
from emotion2vec_ui.errors import EmotionError
from emotion2vec_ui.models.holder import Status
from emotion2vec_ui.texts import Phrase

STEPS = ("decode", "model", "inference", "save")
"""Of a recognition, in their order."""

LONG_WAIT_S = 90.0
"""From here on the rest of a download is told in minutes."""


# --- the frame of every page ----------------------------------------------------------------------


@dataclass(frozen=True)
class Language:
    """One choice of the language menu: its code, its HTML tag, its own name for itself."""

    code: str
    tag: str
    name: str


@dataclass(frozen=True)
class Link:
    """From page to page: where to, the key of its text, and whether this is the page shown."""

    address: str
    key: str
    is_current: bool


@dataclass(frozen=True)
class HeaderView(View):
    """Title and claim, the switches of language and brightness, the links from page to page.

    Attributes:
        languages: of the menu.
        links: to the pages there are.
        faces: all faces, for the rest of the document to refer to.
    """

    template: ClassVar[str] = "header.html"

    languages: tuple[Language, ...]
    links: tuple[Link, ...]
    faces: Markup


def header(page: str) -> HeaderView:
    """The header.

    Args:
        page: the one that it stands on: "main", "batch", "history" or "lab".
    """
    return HeaderView(
        languages=tuple(
            Language(one, render.tag(one), texts.text("language.name", one))
            for one in texts.languages()
        ),
        links=(
            Link("./", "history.main", page == "main"),
            Link("batch", "jobs.title", page == "batch"),
            Link("history", "history.title", page == "history"),
            Link("lab", "lab.title", page == "lab"),
        ),
        faces=render.sprite(),
    )


@dataclass(frozen=True)
class FooterView(View):
    """The warning that belongs under every page of this kind."""

    template: ClassVar[str] = "footer.html"


@dataclass(frozen=True)
class AudioNotesView(View):
    """Below the recording, hidden until the script shows them: no microphone, a failed upload."""

    template: ClassVar[str] = "audio_notes.html"


@dataclass(frozen=True)
class ActionNotesView(View):
    """At the buttons: an upload under way, and what screen readers are told."""

    template: ClassVar[str] = "action_notes.html"


@dataclass(frozen=True)
class FormNotesView(View):
    """Below the form: what the robustness test does, and how to record.

    Attributes:
        n_conditions: how often the robustness test recognises a clip besides the clean one.
    """

    template: ClassVar[str] = "form_notes.html"

    n_conditions: int


@dataclass(frozen=True)
class EmptyView(View):
    """What will stand where the result comes."""

    template: ClassVar[str] = "empty.html"


@dataclass(frozen=True)
class NoteView(View):
    """One sentence in the place of a result."""

    template: ClassVar[str] = "note.html"

    words: Phrase


@dataclass(frozen=True)
class FailureView(View):
    """What was found and expected, and what to do.

    Attributes:
        message: what was found and expected.
        hint: what to do.
        details: each decoder's own words, or empty.
    """

    template: ClassVar[str] = "failure.html"

    message: Phrase
    hint: Phrase
    details: str


def failure(error: EmotionError) -> FailureView:
    """An error as strangers may read it."""
    facts = error.public().facts
    shorter = f"ui.error.{error.code}"
    return FailureView(
        message=Phrase(shorter if texts.has(shorter) else f"error.{error.code}", **facts),
        hint=Phrase(f"error.{error.code}.hint", **facts),
        details=facts.get("reasons", ""),
    )


# --- the model ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelStateView(View):
    """How far the model is, in a line.

    Attributes:
        words: the state.
        progress: done part of a download, 0 to 1, or None.
        rate: bytes done, in all and per second, or None.
        left: how long the download will take, or None.
    """

    template: ClassVar[str] = "model_state.html"

    words: Phrase
    progress: float | None
    rate: Phrase | None
    left: Phrase | None


def model_state(status: Status) -> ModelStateView:
    """The model's state; of a download also how far it is."""
    words = Phrase(
        f"ui.model.{status.state}",
        wanted=status.wanted,
        answering=status.answering or status.wanted,
        seconds=status.seconds,
    )
    if status.state != "downloading":
        return ModelStateView(words, None, None, None)
    rate = None
    if status.bytes_total:
        rate = Phrase(
            "ui.model.rate",
            done=megabytes(status.bytes_done),
            total=megabytes(status.bytes_total),
            rate=megabytes(status.rate_bytes_s),
        )
    return ModelStateView(words, status.progress, rate, time_left(status.eta_s))


def time_left(eta_s: float | None) -> Phrase | None:
    """How long something will take, in words; None where that is not known."""
    if eta_s is None:
        return None
    if eta_s > LONG_WAIT_S:
        return Phrase("ui.model.eta_min", minutes=eta_s / 60)
    return Phrase("ui.model.eta_s", seconds=eta_s)


@dataclass(frozen=True)
class BadgeView(View):
    """Which model answers and why, and how far the wanted one is.

    Attributes:
        kind: "ready", "busy", "limited" (the built-in model answers) or "failed".
        stand_in: why the built-in model answers; None where another does.
        model: how far the wanted model is; None where that is settled.
        failure: why the wanted model cannot answer, or None.
        retry_in_s: seconds until the next attempt by itself, or None.
        can_wait: whether requests are taken before any model answers, which is then said.
        downloads: whether a download is shown by a bar.
    """

    template: ClassVar[str] = "badge.html"

    kind: str
    stand_in: Phrase | None
    model: ModelStateView | None
    failure: FailureView | None
    retry_in_s: float | None
    can_wait: bool
    downloads: bool


def badge(status: Status) -> BadgeView:
    """The badge for a state of the model."""
    failed = status.state == "failed"
    settled = status.state == "ready" or failed
    built_in = status.answering_built_in
    if not settled:
        kind = "busy"
    elif built_in:
        kind = "limited"
    else:
        kind = "failed" if failed else "ready"
    why = f"ui.notice.{status.notice}" if status.notice else "ui.model.chosen"
    return BadgeView(
        kind=kind,
        stand_in=Phrase(why) if built_in else None,
        model=None if built_in and settled else model_state(status),
        failure=failure(status.error) if failed and status.error is not None else None,
        retry_in_s=status.retry_in_s,
        can_wait=not settled and status.answering is None,
        downloads=status.state == "downloading",
    )


# --- while it runs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A step of a recognition: its code, and "done", "active" or "todo"."""

    code: str
    state: str


@dataclass(frozen=True)
class ProgressView(View):
    """The steps of a recognition, which of them runs, and how far it is.

    Attributes:
        name: of the recording.
        steps: all of them.
        share: done part of inference, 0 to 1; None for steps that cannot tell.
        model: its state while the request waits for it, else None.
        seconds: since the start.
    """

    template: ClassVar[str] = "progress.html"

    name: str
    steps: tuple[Step, ...]
    share: float | None
    model: ModelStateView | None
    seconds: float


def progress(name: str, step: str, share: float, seconds: float, status: Status) -> ProgressView:
    """How far a recognition is.

    Args:
        name: of the recording.
        step: one of `STEPS`.
        share: done part of that step, 0 to 1.
        seconds: since the start.
        status: of the model.
    """
    at = STEPS.index(step)
    states = ["done"] * at + ["active"] + ["todo"] * (len(STEPS) - at - 1)
    return ProgressView(
        name=name,
        steps=tuple(Step(code, state) for code, state in zip(STEPS, states, strict=True)),
        share=share if step == "inference" and share > 0 else None,
        model=model_state(status) if step == "model" else None,
        seconds=seconds,
    )
