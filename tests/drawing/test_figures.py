"""Numbers as they are shown."""

from __future__ import annotations

import pytest

from emotion2vec_ui.drawing.figures import check_figure, clock, megabytes, percent, points


@pytest.mark.parametrize("difference", [0.0, 0.0004, -0.0004])
def test_no_change_has_no_sign(difference):
    assert points(difference) == "0.0"


def test_a_change_has_a_sign_that_is_no_hyphen():
    assert (points(0.12), points(-0.034)) == ("+12.0", "−3.4")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (3.24, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00.0"),
        (65.3, "1:05.3"),
        (179.97, "3:00.0"),
        (3599.97, "1:00:00"),
        (3725, "1:02:05"),
        (3659.6, "1:01:00"),
    ],
)
def test_a_time_never_shows_sixty_seconds(seconds, shown):
    assert clock(seconds) == shown


def test_sizes_and_shares():
    sizes = [megabytes(n) for n in (512, 3_456_789, 1_950_000_000)]
    assert sizes == ["0.5 kB", "3.5 MB", "1.95 GB"]
    assert percent(0.8534) == "85.3%"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "db", "–"),
        (0.0123, "fraction", "1.23%"),
        (0.0, "fraction", "0%"),
        (0.5, "fraction", "50%"),
        (-33.04, "db", "−33.0 dB"),
        (-45.0, "dbfs", "−45.0 dBFS"),
        (7000.0, "hz", "7 kHz"),
        (300.0, "hz", "300 Hz"),
        (3.146, "s", "3.15 s"),
        (30.0, "s", "30.0 s"),
        (-0.5, "corr", "−0.50"),
    ],
)
def test_figures_of_checks(value, unit, shown):
    assert check_figure(value, unit) == shown
