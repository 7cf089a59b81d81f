"""From scores to meaning, in numpy and scipy only."""
