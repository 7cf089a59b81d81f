"""The slopes of ALiBi, attention with linear biases (Press et al., arXiv 2108.12409)."""

from __future__ import annotations


def slopes(heads: int) -> list[float]:
    """The slope of each head, for any number of heads, as the paper's reference code gives them."""
    power = 1 << (heads.bit_length() - 1)
    start = 2.0 ** (-8.0 / power)
    found = [start ** (i + 1) for i in range(power)]
    if power < heads:
        found += slopes(2 * power)[0::2][: heads - power]
    return found
