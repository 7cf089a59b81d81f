"""How the built-in ``compact`` model was made; see README.md. Not needed to use it."""
