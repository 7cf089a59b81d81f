"""The frame of the page, the model's badge, progress and failures."""

from __future__ import annotations

from emotion2vec_ui import texts
from emotion2vec_ui.drawing import status_view as views
from emotion2vec_ui.drawing.render import draw
from emotion2vec_ui.errors import AudioDecodeError, ModelDownloadError, OutputError
from emotion2vec_ui.models.holder import Status


def status(state: str = "ready", answering: str | None = "large", **facts) -> Status:
    given = {"seconds": 3.0, "wanted": "large", "answering_built_in": False} | facts
    return Status(state=state, answering=answering, **given)


def words(view, lang: str = "en") -> str:
    return " ".join(draw(view, lang).striptags().split())


def test_the_menu_has_every_language_under_its_own_name():
    html = draw(views.header("main"))
    for lang in texts.languages():
        assert f'data-set-lang="{lang}"' in html
        assert texts.text("language.name", lang) in html
    assert html.count("aria-current") == 1


def test_every_part_is_drawn_in_one_language_alone(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            others = [one for one in texts.languages() if one != lang]
            for view in (views.EmptyView(), views.FooterView(), views.FormNotesView(20)):
                html = draw(view, lang)
                assert not any(f'class="{one}"' in html for one in others)


def test_the_badge_of_a_model_that_is_ready():
    badge = views.badge(status())
    assert badge.kind == "ready" and words(badge) == "large is ready"


def test_the_badge_says_once_that_the_built_in_model_answers_and_why():
    here = status(answering="compact", answering_built_in=True, notice="compact_offline")
    badge = views.badge(here)
    assert badge.kind == "limited"
    assert words(badge).count("compact") == 1 and "offline" in words(badge)


def test_a_folder_named_compact_is_not_the_built_in_model():
    assert views.badge(status(answering="compact", wanted="compact")).kind == "ready"


def test_a_download_behind_the_built_in_model_is_told_with_figures():
    here = status(
        "downloading",
        "compact",
        answering_built_in=True,
        notice="compact_while_downloading",
        progress=0.25,
        bytes_done=500_000_000,
        bytes_total=2_000_000_000,
        rate_bytes_s=1e7,
        eta_s=150.0,
    )
    said = words(views.badge(here))
    assert views.badge(here).kind == "busy"
    assert "25% · 500.0 MB of 2.00 GB, 10.0 MB/s · about 2 min left" in said
    assert "width:25.0%" in draw(views.badge(here), "en")


def test_before_any_model_answers_it_is_said_that_requests_wait():
    assert "requests wait" in words(views.badge(status("loading", None)))


def test_a_download_that_failed_offers_another_try():
    error = ModelDownloadError(model="large", problem="no route")
    badge = views.badge(status("failed", None, error=error, retry_in_s=15.0))
    assert badge.kind == "failed"
    assert 'data-press="retry"' in draw(badge)
    assert "no route" in words(badge) and "15 s" in words(badge)


def test_one_step_runs_and_those_before_it_are_done(subtests):
    for step in views.STEPS:
        with subtests.test(step=step):
            progress = views.progress("talk.wav", step, 0.0, 2.0, status())
            at = views.STEPS.index(step)
            states = [one.state for one in progress.steps]
            assert states == ["done"] * at + ["active"] + ["todo"] * (3 - at)
            assert draw(progress, "en").count('aria-current="step"') == 1


def test_only_inference_shows_its_share_and_only_waiting_shows_the_model():
    running = views.progress("talk.wav", "inference", 0.4, 2.0, status())
    assert "Recognise 40%" in words(running) and 'aria-valuenow="40"' in draw(running)
    waiting = views.progress("talk.wav", "model", 0.4, 2.0, status("loading", None))
    assert "Loading large" in words(waiting) and "aria-valuenow" not in draw(waiting)


def test_what_a_person_named_a_file_is_never_html():
    progress = views.progress("<b>&.wav", "decode", 0.0, 0.0, status())
    failure = views.failure(AudioDecodeError(name="<script>", reasons="<i>"))
    assert "<b>&.wav" not in draw(progress) and "&lt;b&gt;&amp;.wav" in draw(progress)
    assert "<script>" not in draw(failure) and "<i>" not in draw(failure)


def test_a_failure_names_no_folder_of_the_server():
    error = OutputError(path="/srv/secret/outputs", problem="read-only")
    failure = words(views.failure(error))
    assert "secret" not in failure and "outputs" in failure and "--outputs" in failure
