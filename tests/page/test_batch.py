"""The page of jobs in a real browser against a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui.records import subclasses
from tests import past_subclasses
from tests.conftest import Server
from tests.page.conftest import WAIT_MS
from tests.past import EXAMPLE

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROWS = "#job-rows tbody tr"
INPUT = "[data-jobs-input]:not([webkitdirectory])"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Sixty recordings, which are more than a page of the table; two broken ones; one real."""
    folder = tmp_path_factory.mktemp("calls")
    first = write_soundfile(folder / "call 00.wav", speechlike(1), 16_000, "WAV", "PCM_16")
    paths = [first]
    for number in range(1, 60):
        paths.append(folder / f"call {number:02}.wav")
        paths[-1].write_bytes(first.read_bytes())
    for name in ("broken <b>.wav", "客户.mp3"):
        paths.append(folder / name)
        paths[-1].write_text("no sound")
    return [*paths, EXAMPLE]


@pytest.fixture
def visit(browser, server) -> Iterator[Callable[..., sync_api.Page]]:
    """Opens the page; at the end no visit may have met an error or left the machine."""
    contexts, errors, foreign, local = [], [], [], []

    def open_page(
        path: str = "/batch",
        *,
        at: Server = server,
        locale: str = "en-US",
        width: int = 1280,
        **options,
    ):
        context = browser.new_context(
            locale=locale,
            viewport={"width": width, "height": 900},
            accept_downloads=True,
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: foreign.append(request.url))
        local.append(at.url)
        page.goto(at.url + path)
        page.wait_for_selector("#jobs-list .card")
        return page

    open_page.errors = errors
    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [one for one in foreign if not one.startswith((*local, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def done(server, files) -> str:
    """Id of a job that has ended."""
    parts = [("files", (path.name, path.read_bytes())) for path in files]
    job = requests.post(f"{server.url}/api/jobs", files=parts, timeout=60).json()
    with requests.get(
        f"{server.url}/api/jobs/{job['job_id']}/events", stream=True, timeout=120
    ) as stream:
        assert "COMPLETED" in stream.text
    return job["job_id"]


def count(page, number: int) -> None:
    page.wait_for_function(f"document.querySelectorAll({ROWS!r}).length === {number}")


def choose(page, name: str, words: str) -> None:
    page.click(f"#job-{name} input")
    page.get_by_role("option", name=words, exact=True).click()
    page.keyboard.press("Escape")


def test_files_are_sent_watched_and_found_again(visit, files, server):
    page = visit()
    page.set_input_files(INPUT, files)
    assert page.inner_text("[data-jobs-count]") == "63"
    page.click("[data-jobs-start]")
    page.wait_for_selector("[data-jobs-opened]")
    page.wait_for_selector("[data-jobs-ended=yes]", timeout=4 * WAIT_MS)
    assert "63 of 63 files" in page.inner_text("#job-progress")
    assert "2 with an error" in page.inner_text("#job-progress")
    count(page, 50)
    assert page.is_hidden("[data-jobs-chosen]")  # what was sent is no longer chosen
    (job_id,) = re.findall(r"[?&]job=([0-9a-f-]{36})", page.url)
    page.reload()
    count(page, 50)
    assert page.get_attribute("[data-jobs-opened]", "data-jobs-opened") == job_id
    assert requests.get(f"{server.url}/api/jobs/{job_id}", timeout=10).json()["name"]


def test_what_is_kept_is_found_in_history_and_lab(visit, files, server):
    page = visit()
    page.set_input_files(INPUT, [*files[:3], EXAMPLE, files[-2]])
    page.check("[data-jobs-option=save]")
    page.click("[data-jobs-start]")
    page.wait_for_selector("[data-jobs-ended=yes]", timeout=4 * WAIT_MS)
    count(page, 5)
    assert page.locator(f"{ROWS}.broken a").count() == 0
    links = page.locator("#job-rows td.c-file a")
    assert links.count() == 4
    with page.context.expect_page() as coming:
        links.filter(has_text=EXAMPLE.name).click()
    assert EXAMPLE.name in coming.value.inner_text("main, body") and "lang=en" in coming.value.url
    folder = re.findall(r"/result/(outputs_\w+)", coming.value.url)[0]
    page.click(".tables a:has-text('See in the history')")
    page.wait_for_selector(f"#history-list tr[data-value='{folder}']")
    page.go_back()
    page.click(".tables a:has-text('Open the lab')")
    page.wait_for_url("**/lab")
    page.wait_for_selector("#lab-map")
    found = requests.get(f"{server.url}/api/map", timeout=60).json()
    assert folder in str(found)


def test_a_job_without_results_leads_to_no_lab(visit, done):
    page = visit(f"/batch?job={done}")
    count(page, 50)
    assert page.locator("#job-rows td.c-file a, .tables .to").count() == 0
    assert page.locator(".tables a").count() == 3


STATES = [("light", "zh-CN", 1280), ("dark", "en-US", 390)]


def test_a_failed_job_says_why(visit, server, files):
    """The sub-classes that it was sent with are removed while it waits for its turn."""
    content = files[0].read_bytes()
    one = requests.post(f"{server.url}/api/predict", files={"audio": content}, timeout=60).json()
    facts = {"dim": 512, "weights_sha256": one["model"]["weights_sha256"]}
    subclasses.save(server.outputs, past_subclasses.trained(name="calls", **facts))
    address = f"{server.url}/api/jobs"
    parts = [("files", (f"{n:03}.wav", content)) for n in range(300)]
    before = requests.post(address, files=parts, timeout=60).json()["job_id"]
    job = requests.post(address, files=parts[:3], data={"subclass": "calls"}, timeout=60).json()
    subclasses.remove(server.outputs, "calls")
    requests.post(f"{address}/{before}/cancel", timeout=60)
    for scheme, locale, width in STATES:
        path = f"/batch?job={job['job_id']}"
        page = visit(path, locale=locale, width=width, color_scheme=scheme)
        page.wait_for_selector("#job-head .pill.fail")
        told = page.inner_text("#job-head .problem")
        assert "calls" in told and ("子类" if locale == "zh-CN" else "sub-classes") in told
        assert page.is_hidden("#job-filters") and page.is_hidden("#job-rows")
        assert page.locator("#job-progress .bar, [data-jobs=cancel]").count() == 0
        usable(page)


def test_a_job_that_is_held_up_says_by_what(visit, start_server, files):
    """By a model that is not there and may not be fetched."""
    held = start_server("--model", "iic/emotion2vec_plus_large", "--offline")
    parts = [("files", (path.name, path.read_bytes())) for path in files[:3]]
    job = requests.post(f"{held.url}/api/jobs", files=parts, timeout=60).json()
    for scheme, locale, width in STATES:
        path = f"/batch?job={job['job_id']}"
        page = visit(path, at=held, locale=locale, width=width, color_scheme=scheme)
        page.wait_for_selector("#job-head .pill.warn")
        told = page.inner_text("#job-head .problem.held")
        assert "--offline" in told
        assert ("会自动重试" if locale == "zh-CN" else "tried again by itself") in told
        assert page.is_visible("[data-jobs=cancel]") and page.is_hidden("#job-filters")
        assert page.locator("#jobs-list .bar, #job-progress .bar").count() == 0
        page.wait_for_selector("#jobs-list .pill.warn")
        usable(page)


def test_the_table_is_filtered_sorted_and_paged(visit, done):
    page = visit(f"/batch?job={done}")
    count(page, 50)
    page.click("[data-jobs=page]:not([disabled])")
    count(page, 13)
    assert "51" in page.inner_text(".pager") and "63" in page.inner_text(".pager")
    choose(page, "result", "With an error")
    count(page, 2)
    shown = page.inner_text("#job-rows")
    assert "broken <b>.wav" in shown and "No decoder can read" in shown and "客户.mp3" in shown
    page.click("#job-result button[aria-label], #job-result .token-remove")
    count(page, 50)
    page.fill("#job-text :is(input, textarea)", "客户")
    count(page, 1)
    page.fill("#job-text :is(input, textarea)", "no such file")
    page.wait_for_selector("text=No result fits these filters.")
    page.fill("#job-text :is(input, textarea)", "")
    count(page, 50)
    choose(page, "sort", "Errors first")
    page.wait_for_function(f"document.querySelector('{ROWS}').classList.contains('broken')")


def test_a_recording_is_heard_and_tables_are_downloaded(visit, done):
    page = visit(f"/batch?job={done}")
    count(page, 50)
    with page.expect_response(lambda response: "/files/call%2000.wav" in response.url) as waiting:
        page.click("[data-jobs-hear*='call%2000']")
    assert waiting.value.status in (200, 206)
    for name, begins in (("CSV", b"\xef\xbb\xbfpath,"), ("JSON", b"[\n{"), ("Parquet", b"PAR1")):
        with page.expect_download() as coming:
            page.click(f".tables a:has-text('{name}')")
        assert coming.value.path().read_bytes().startswith(begins)
        assert coming.value.suggested_filename.endswith(f".{name.lower()}")


def test_a_job_is_closed_opened_cancelled_and_deleted(visit, server, files):
    content = files[0].read_bytes()
    parts = [("files", (f"{n:03}.wav", content)) for n in range(400)]
    job_id = requests.post(f"{server.url}/api/jobs", files=parts, timeout=60).json()["job_id"]
    page = visit()
    page.click(f"#jobs-list [data-value='{job_id}'] button")
    page.wait_for_selector(f"[data-jobs-opened='{job_id}']")
    page.click("[data-jobs=cancel]")
    page.wait_for_selector("#job-head .pill:has-text('Cancelled')")
    page.click("[data-jobs=close]")
    page.wait_for_selector("[data-jobs-opened]", state="detached")
    assert "job=" not in page.url
    page.click(f"#jobs-list [data-value='{job_id}'] button")
    page.click("#job-head .confirm summary")
    page.click("[data-jobs=delete]")
    page.wait_for_selector("text=000.wav was removed.")
    assert page.locator(f"#jobs-list [data-value='{job_id}']").count() == 0
    assert requests.get(f"{server.url}/api/jobs/{job_id}", timeout=10).status_code == 404


def test_what_cannot_be_taken_is_told_in_the_pages_language(visit, tmp_path):
    page = visit(locale="zh-CN")
    broken = tmp_path / "calls.zip"
    broken.write_text("no archive")
    page.set_input_files(INPUT, broken)
    page.click("[data-jobs-start]")
    page.wait_for_selector("[data-jobs-problem=told]:not([hidden])")
    assert "压缩包已损坏" in page.inner_text("[data-jobs-problem=told]")
    assert page.is_visible("[data-jobs-start]")  # it can be tried again
    # The browser's own word for the answer 400.
    assert len(visit.errors) == 1 and "400" in visit.errors.pop()


def test_a_job_that_is_gone_is_told(visit):
    page = visit("/batch?job=00000000-0000-0000-0000-000000000000")
    page.wait_for_selector("#job-head .failure")


def usable(page) -> None:
    """Nothing stands in anybody's way, and nothing sticks out of the window."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert [
        f"{one['id']} {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("critical", "serious")
        for node in one["nodes"]
    ] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("scheme", "locale", "width"), [
    ("light", "zh-CN", 1280), ("dark", "en-US", 390), ("dark", "zh-CN", 820),
])  # fmt: skip
def test_it_fits_and_can_be_used_by_everybody(visit, done, scheme, locale, width):
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    for path, ready in (("/batch", "#jobs-list li"), (f"/batch?job={done}", ROWS)):
        page = visit(path, locale=locale, width=width, **options)
        page.wait_for_selector(ready)
        usable(page)
