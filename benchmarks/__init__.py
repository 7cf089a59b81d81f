"""Every figure in docs/performance.md comes from a script in here."""
