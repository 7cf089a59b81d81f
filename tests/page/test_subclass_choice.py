"""The choice of sub-classes in a real browser: there once trained, and what it does to a result."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from emotion2vec_ui import texts
from emotion2vec_ui.records import subclasses
from tests import past_subclasses
from tests.page.conftest import saved
from tests.past import EXAMPLE

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def trained(server) -> Iterator[None]:
    with EXAMPLE.open("rb") as file:
        answer = requests.post(f"{server.url}/api/predict", files={"audio": file}, timeout=60)
    weights = answer.json()["model"]["weights_sha256"]
    for name, sha256 in (("calls", weights), ("foreign", "f" * 64)):
        made = past_subclasses.trained(name=name, dim=512, weights_sha256=sha256, small=True)
        subclasses.save(server.outputs, made)
    yield
    for name in ("calls", "foreign"):
        subclasses.remove(server.outputs, name)


def test_nothing_is_there_to_choose_where_nothing_is_trained(visit) -> None:
    assert visit().page.locator("#subclass").count() == 0


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_a_set_that_is_ticked_is_below_its_emotion(visit, server, trained, locale: str) -> None:
    lang = locale[:2]
    here = visit(locale=locale)
    here.page.wait_for_selector("#subclass")
    labels = here.page.locator("#subclass label").all_inner_texts()
    assert [one.strip() for one in labels] == ["calls: frustrated, furious"]
    assert texts.text("ui.subclass", lang) in here.text("#subclass")
    here.page.check("#subclass input")
    here.recognise(EXAMPLE)
    divided = here.text(".scores .divided")
    for words in ("calls", "frustrated", "furious", texts.text("subclass.none", lang)):
        assert words in divided
    assert texts.text("subclass.small", lang) in divided
    assert list(saved(server)["subclasses"]) == ["calls"]
