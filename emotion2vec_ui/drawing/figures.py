"""Numbers as they are shown: the same everywhere, in every language."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"


def percent(share: float) -> str:
    """A share of 0 to 1, such as `85.3%`."""
    return f"{share:.1%}"


def points(share: float) -> str:
    """A change of a share in points of a hundred: `+12.0`, `−3.4`; no change has no sign."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def clock(seconds: float) -> str:
    """A time: `3.2 s` below a minute, then `1:05.3` and `1:02:05`."""
    tenths = round(10 * seconds)
    if tenths < 600:
        return f"{tenths / 10:.1f} s"
    if tenths < 36_000:
        return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def megabytes(n_bytes: float) -> str:
    """A size with its unit: kB, MB or GB of 1000."""
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.1f} kB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2f} GB"


def grouped(count: int) -> str:
    """A number of things, such as `12,345`."""
    return f"{count:,}"


def check_figure(value: float | None, unit: str) -> str:
    """The figure or threshold of a quality check.

    Args:
        value: None where it could not be told.
        unit: of the check, one of those listed in `audio.checks`.
    """
    if value is None:
        return "–"
    match unit:
        case "fraction":
            shown = f"{value:.2%}" if 0 < value < 0.1 else f"{value:.0%}"
        case "db":
            shown = f"{value:.1f} dB"
        case "dbfs":
            shown = f"{value:.1f} dBFS"
        case "hz":
            shown = f"{value / 1000:.3g} kHz" if value >= 1000 else f"{value:.0f} Hz"
        case "s":
            shown = f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
        case "ms":
            shown = f"{value:.1f} ms"
        case "bit/s":
            shown = f"{value / 1000:.0f} kbit/s"
        case _:
            shown = f"{value:.2f}"
    return shown.replace("-", MINUS)
