"""The documentation: links lead somewhere, both languages say the same, and nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import requests

from benchmarks.synthetic_audio import speechlike, write_soundfile
from emotion2vec_ui import errors, texts
from emotion2vec_ui.labels import EMOTIONS
from tests.conftest import ROOT, Server

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "deploy/*.md", "training/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
BOTH = sorted(path for path in PAGES if path.with_suffix(".zh-CN.md").exists())
"""The English pages that have a Chinese one."""

GUIDES = ("api", "results", "quality", "performance", "flags", "export")


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.M)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


def commands(path: Path) -> list[str]:
    """The lines of the code blocks without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    lines = (line.split(" #")[0].rstrip() for block in blocks for line in block.splitlines())
    # What stands in angle brackets is a word of the page's language.
    return [re.sub(r"<[^>]+>", "<>", line) for line in lines]


def code_words(path: Path) -> set[str]:
    """What stands in backquotes and has no Chinese in it."""
    words = re.findall(r"`([^`\n]+)`", prose(path))
    return {word for word in words if word.isascii()}


def test_every_relative_link_leads_to_a_file_and_a_heading(subtests):
    for page in PAGES:
        with subtests.test(page=page_name(page)):
            for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
                if re.match(r"[a-z]+:", link):
                    continue
                name, _, heading = unquote(link).partition("#")
                target = (page.parent / name).resolve() if name else page
                assert target.exists(), link
                assert not heading or heading in anchors(target), link


def test_the_guides_are_in_both_languages():
    names = {page_name(path) for path in BOTH}
    assert names >= {"README.md", *(f"docs/{guide}.md" for guide in GUIDES)}


def test_both_languages_show_the_same_commands_and_name_the_same_things(subtests):
    for page in BOTH:
        with subtests.test(page=page_name(page)):
            other = page.with_suffix(".zh-CN.md")
            assert commands(page) == commands(other)
            assert code_words(page) == code_words(other)


CURL = (
    'curl -X POST "http://localhost:7860/api/predict/" -H "Content-Type: multipart/form-data" '
    '-F "audio=@test.wav" -F "granularity=utterance" -F "extract_embedding=true"'
)
SCRIPT = (
    'requests.post("http://localhost:7860/api/predict/", files={"audio": f}, '
    'data={"granularity": "utterance"}).json()'
)


def test_the_readme_is_short_and_shows_the_contracts_calls(subtests):
    for page in ["README.md", "README.zh-CN.md"]:
        with subtests.test(page=page):
            text = (ROOT / page).read_text("utf-8")
            assert len(text.splitlines()) < 200
            assert CURL in text and SCRIPT in text


# --- nothing is left out --------------------------------------------------------------------------


def guide_words(guide: str) -> set[str]:
    """Every name in backquotes of a guide; `a.b` gives `a` and `b`."""
    words = code_words(ROOT / "docs" / f"{guide}.md")
    return {part for word in words for part in word.split(".")}


def test_every_file_that_is_named_is_there(subtests):
    for page in ["CONTRIBUTING.md", "docs/architecture.md", "SECURITY.md"]:
        with subtests.test(page=page):
            words = code_words(ROOT / page)
            names = {word for word in words if re.fullmatch(r"[a-z][\w.*-]*/[\w./*-]*", word)}
            # Made when the program runs.
            names = {name for name in names if not name.startswith("outputs/")}
            assert names
            for name in names:
                found = [
                    path
                    for folder in (ROOT, ROOT / "emotion2vec_ui", ROOT / "tests" / "server")
                    for path in (*folder.glob(name), *folder.glob(f"{name}.py"))
                ]
                assert found, name


def test_every_folder_and_module_is_in_the_picture():
    package = ROOT / "emotion2vec_ui"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (picture,) = re.findall(r"^```mermaid\nflowchart(.*?)^```", text, re.M | re.S)
    drawn = {name for bold in re.findall("<b>(.+?)</b>", picture) for name in bold.split(", ")}
    assert drawn == modules | folders


def test_every_check_warning_and_remedy_is_in_the_guide():
    kinds = {"check", "quality", "remedy"}
    codes = {key.split(".")[1] for key in texts.catalogue("en") if key.partition(".")[0] in kinds}
    assert codes and codes - guide_words("quality") == set()


def test_every_error_a_request_can_meet_is_in_the_guide():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    leaves = {
        kind.code
        for kind in kinds
        if issubclass(kind, errors.EmotionError) and not kind.__subclasses__()
    }
    # A request sends its file; only the command line opens files, and writes tables.
    commands_only = {
        "cannot_read",
        "manifest",
        "no_recordings",
        "results_file",
        "batch_disk_full",
        "export",
        "cluster",
    }
    assert leaves - commands_only - {"package_missing"} - guide_words("api") == set()


def test_every_route_is_in_the_guide(server: Server):
    paths = requests.get(f"{server.url}/openapi.json", timeout=10).json()["paths"]
    text = re.sub(r"<\w+>", "{}", (ROOT / "docs" / "api.md").read_text("utf-8"))
    named = {path: re.sub(r"{\w+}", "{}", path) for path in paths}
    # Exports are one address with several endings.
    assert [path for path, name in named.items() if name.split(".")[0] not in text] == []


def test_every_metric_is_in_the_guide(server: Server):
    lines = requests.get(f"{server.url}/metrics", timeout=10).text.splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE emotion2vec_")}
    names = {name for name in names if not name.endswith("_created")}
    assert names and names - guide_words("api") == set()


def field_names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from field_names(item)
    elif isinstance(value, list):
        for item in value[:50]:
            yield from field_names(item)


def test_every_field_of_a_result_is_in_the_guides(server: Server, tmp_path: Path):
    path = write_soundfile(tmp_path / "a.wav", speechlike(4), 16_000, "WAV", "PCM_16")
    with path.open("rb") as file:
        result = requests.post(
            f"{server.url}/api/predict",
            files={"audio": file},
            data={"granularity": "frame", "extract_embedding": "true"},
            timeout=60,
        ).json()
    documented = guide_words("results") | guide_words("quality") | guide_words("api")
    assert set(field_names(result)) - set(EMOTIONS) - documented == set()
