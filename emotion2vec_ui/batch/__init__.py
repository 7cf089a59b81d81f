"""Many recordings: what to recognise, doing it without losing work, the table of it."""
