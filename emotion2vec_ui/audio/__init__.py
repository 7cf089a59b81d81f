"""Sound in: decoded, measured and judged."""
