"""The verbs that page, API, command line and batch share."""
