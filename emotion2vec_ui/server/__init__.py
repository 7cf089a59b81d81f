"""The HTTP side: routes, access rules, metrics."""
