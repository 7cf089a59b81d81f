"""The nine faces: all there, and clear in light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emotion2vec_ui import page
from emotion2vec_ui.drawing.render import FACES, TEMPLATES, face, sprite
from emotion2vec_ui.labels import EMOTIONS

STYLES = (Path(page.__file__).parent / "assets" / "page.css", TEMPLATES / "report.css")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb: WCAG 2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_every_emotion_has_one():
    assert sorted(path.stem for path in FACES.glob("*.svg")) == sorted(EMOTIONS)
    for emotion in EMOTIONS:
        (name,) = re.findall(r'href="#([^"]+)"', face(emotion))
        assert sprite().count(f'<symbol id="{name}" viewBox="0 0 24 24">') == 1


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_its_features_stand_out_from_its_colour(emotion):
    drawing = (FACES / f"{emotion}.svg").read_text(encoding="utf-8")
    inks = set(re.findall(r"#[0-9a-f]{6}", drawing))
    grounds = [
        colour
        for path in STYLES
        for colour in re.findall(rf"--e-{emotion}: (#[0-9a-f]{{6}})", path.read_text("utf-8"))
    ]
    # The page, light and dark, and paper.
    assert len(inks) == 1 and len(grounds) == 3
    for ground in grounds:
        # 3:1 is what WCAG 2.1 asks of graphics (1.4.11).
        assert (luminance(ground) + 0.05) / (luminance(inks.copy().pop()) + 0.05) >= 3
