"""Sub-classes on the lab's page in a real browser: from a selection to a result, and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile as sf

from benchmarks.synthetic_audio import RATE_HZ, speechlike
from emotion2vec_ui import texts
from emotion2vec_ui.records import store, subclasses
from tests import past, past_subclasses
from tests.conftest import Server
from tests.lab.conftest import write_labelled
from tests.page.conftest import WAIT_MS, Visit
from tests.page.test_accessibility import faults
from tests.past import EXAMPLE
from tests.server.test_subclasses import archive

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PER_LABEL = 12
SPEAKERS = 3


@pytest.fixture(scope="module")
def stocked(start_server, tmp_path_factory) -> Server:
    """Past results that sound: twelve clear ones and twelve with a hiss, of three speakers."""
    outputs = tmp_path_factory.mktemp("subclasses")
    rng = np.random.default_rng(0)
    for number in range(2 * PER_LABEL):
        hisses = number % 2
        folder = past.save(
            outputs,
            kept=(np.eye(16)[hisses] + rng.normal(scale=0.05, size=16)).astype(np.float32),
            name=f"{('clear', 'hiss')[hisses]} {number}.wav",
            emotion=("angry", "sad")[hisses],
            timestamp=f"2026-01-02 10:00:{number:02}",
        )
        sound = speechlike(0.5, seed=number)
        sound = 0.5 * (sound + hisses * 0.2 * rng.normal(size=len(sound)).astype(np.float32))
        sf.write(outputs / folder / store.AUDIO_NAME, sound, RATE_HZ, subtype="PCM_16")
    server = start_server("--model", "compact", "--outputs", str(outputs))
    return replace(server, outputs=outputs)


@pytest.fixture
def lab(visit, stocked: Server) -> Iterator[Callable[..., Visit]]:
    """Opens the lab; what was trained or recognised is removed."""

    def open_lab(**options) -> Visit:
        context = {"at": stocked, "path": "/lab", "ready": "#subclass-sets .subclasses"}
        here = visit(**context, reduced_motion="reduce", **options)
        wait_until_drawn(here)
        return here

    yield open_lab
    for name in subclasses.names(stocked.outputs):
        subclasses.remove(stocked.outputs, name)
    for folder in stocked.outputs.glob("outputs_*"):
        if not folder.name.startswith("outputs_20260102"):
            store.discard(folder)


@pytest.fixture
def kept(stocked: Server) -> None:
    """Two versions of a set of the answering model, and one of another model."""
    with EXAMPLE.open("rb") as file:
        answer = requests.post(f"{stocked.url}/api/predict", files={"audio": file}, timeout=60)
    store.discard(stocked.outputs / Path(answer.json()["output_dir"]).name)
    weights = answer.json()["model"]["weights_sha256"]
    for facts in (
        {"uar": 0.8, "small": True, "weights_sha256": weights},
        {"uar": 0.9, "weights_sha256": weights},
        {"name": "foreign", "weights_sha256": "f" * 64, "model": "other"},
    ):
        subclasses.save(stocked.outputs, past_subclasses.trained(dim=512, **facts))


def wait_until_drawn(here: Visit) -> None:
    """Waits for all of the lab: a request that is open when the page is left is an error."""
    for drawn in (
        ".lab[data-ready]",
        ".lab-cluster",
        ".lab-outliers",
        "#subclass-sets .subclasses",
    ):
        here.page.wait_for_selector(drawn, timeout=2 * WAIT_MS)


def speakers_csv(folder: Path) -> Path:
    """Names the speaker, gender and age of every past result by the name of its file."""
    lines = ["path,speaker,gender,age"]
    for number in range(2 * PER_LABEL):
        who = number // 2 % SPEAKERS
        name = f"{('clear', 'hiss')[number % 2]} {number}.wav"
        lines.append(f"anywhere/{name},s{who},{'fmf'[who]},{30 + who}")
    path = folder / "speakers.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def use(here: Visit, part_of_name: str, label: str) -> None:
    here.page.fill("[data-lab-find]", part_of_name)
    here.page.fill("[data-lab-label]", label)
    here.page.click("[data-lab-use]")


def missing(here: Visit) -> str:
    return here.text("[data-missing]")


def said(key: str, lang: str = "en", **facts: object) -> str:
    return texts.text(key, lang, **facts)


def test_from_a_selection_to_a_result_and_removed(lab, visit, stocked, tmp_path):
    here = lab()
    page = here.page
    assert said("subclass.page.none") in here.text("[data-subclass-none]")
    assert missing(here) == said("subclass.train.missing.samples")
    use(here, "clear", "")
    assert page.is_visible("[data-lab-no-label]")
    use(here, "clear", "clear voice")
    assert missing(here) == said("subclass.train.missing.labels")
    use(here, "hiss", "hissing")
    assert here.text("[data-lab-samples-list]") == "clear voice 12 hissing 12"
    assert missing(here) == said("subclass.train.missing.speakers")
    assert page.is_visible("[data-no-speaker]") and page.is_disabled("[data-train]")
    page.set_input_files("[data-speakers-file]", speakers_csv(tmp_path))
    page.wait_for_selector("[data-no-speaker]", state="hidden")
    assert missing(here) == said("subclass.train.missing.small")
    page.check("[data-small]")
    # As many are angry as sad: the first is proposed, and another can be chosen.
    page.check("[name=subclass-base][value=neutral]")
    assert missing(here) == said("subclass.train.missing.name")
    page.fill("#subclass-training [data-name]", "hiss")
    page.fill("[data-licence]", "CC0-1.0")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-subclass-card=hiss]", timeout=5 * WAIT_MS)
    assert page.evaluate("document.activeElement.dataset.subclassCard") == "hiss"
    card = here.text("[data-subclass-card]")
    for words in ("f 8 m 4", "30-39 12", "CC0-1.0", "few", said("subclass.small")):
        assert words in card
    assert not page.is_visible("[data-progress]")
    trained = subclasses.card(stocked.outputs, "hiss")
    assert (trained.samples, trained.speakers, trained.base) == (24, 3, "neutral")
    assert list(trained.classes) == ["clear voice", "hissing"]

    main = visit(at=stocked)
    main.page.wait_for_selector("#subclass")
    main.page.check("#subclass input")
    main.recognise(EXAMPLE)
    assert "clear voice" in main.text(".scores .divided")

    page.reload()
    wait_until_drawn(here)
    assert page.locator("[data-groups] li").count() == 2
    page.click("[data-subclass=open]")
    page.click("[data-subclass-card] .confirm summary")
    page.click("[data-subclass=remove]")
    page.wait_for_selector("[data-subclass-none]")
    assert subclasses.names(stocked.outputs) == []


def test_an_archive_is_trained_and_a_refusal_is_shown_in_the_page_s_language(
    lab, stocked, tmp_path
):
    here = lab(locale="zh-CN")
    page = here.page
    folder = tmp_path / "set"
    folder.mkdir()
    write_labelled(folder)
    path = tmp_path / "clips.zip"
    path.write_bytes(archive(folder))
    page.set_input_files("[data-manifest]", path)
    page.check("[name=subclass-base][value=angry]")
    page.fill("#subclass-training [data-name]", "hiss")
    page.click("[data-train]")
    page.wait_for_selector("[data-failure]:not([hidden])", timeout=WAIT_MS)
    assert "位说话人的 12 条可用录音" in here.text("[data-failure]")
    page.check("[data-small]")
    page.click("[data-train]")
    page.wait_for_selector("[data-subclass-card=hiss]", timeout=5 * WAIT_MS)
    assert not page.is_visible("[data-failure]")
    # The browser itself reports the refusal.
    assert [one for one in here.errors if "400" not in one] == []
    here.errors.clear()


def test_versions_are_compared_chosen_and_removed(lab, kept, stocked):
    here = lab()
    page = here.page
    lines = page.locator(".subclass-sets li")
    assert "UAR 0.90" in lines.nth(0).inner_text()
    assert "version 2 of 1, 2" in lines.nth(0).inner_text()
    assert said("subclass.page.foreign") in lines.nth(1).inner_text()
    page.locator("[data-subclass=open] >> nth=0").press("Enter")
    page.wait_for_selector("[data-subclass-card=calls]")
    assert page.locator("[data-subclass-card] svg .curve").count() == 1
    page.click("[data-subclass=version][data-value='1']")
    page.wait_for_selector("[data-subclass=use]")
    assert said("subclass.small") in here.text("[data-subclass-card]")
    page.click("[data-subclass=use]")
    page.wait_for_selector(".subclass-said")
    assert subclasses.current(stocked.outputs, "calls") == 1
    page.click("[data-subclass=version][data-value='2']")
    page.wait_for_selector("[data-subclass=use]")
    page.click("[data-subclass-card] .confirm >> nth=0")
    page.click("[data-subclass=remove_version]")
    page.wait_for_selector("[data-subclass=version]", state="detached")
    assert subclasses.versions(stocked.outputs, "calls") == [1]
    page.click("[data-subclass-card] [data-subclass=close]")
    page.wait_for_selector("[data-subclass-card]", state="detached")
    assert page.evaluate("document.activeElement.dataset.value") == "calls"


def test_a_damaged_set_is_named_and_can_be_removed(lab, kept, stocked):
    card = stocked.outputs / subclasses.FOLDER_NAME / "foreign" / "1" / subclasses.CARD_NAME
    card.write_text("{", "utf-8")
    here = lab()
    page = here.page
    assert "foreign" in here.text(".subclass-sets .bad")
    page.click(".subclass-sets .confirm summary")
    page.click(".subclass-sets [data-subclass=remove]")
    page.wait_for_selector(".subclass-said")
    assert subclasses.names(stocked.outputs) == ["calls"]


@pytest.mark.parametrize(
    ("scheme", "locale", "width"), [("light", "en-US", 1280), ("dark", "zh-CN", 390)]
)
def test_it_fits_a_phone_and_has_no_serious_fault(lab, kept, scheme, locale, width):
    here = lab(color_scheme=scheme, locale=locale, width=width)
    page = here.page
    use(here, "clear", "a" * 40)
    use(here, "hiss", "嘶声")
    page.locator("[data-group-label]").nth(1).fill("a" * 40)
    page.keyboard.press("Tab")
    page.wait_for_selector("[data-groups] li >> nth=1", state="detached")
    page.click("[data-subclass=open] >> nth=0")
    page.wait_for_selector("[data-subclass-card]")
    page.click("[data-subclass-card] .confirm summary >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults(page) == []
