"""Starts the page and the API: the `serve` command under the name that people know."""

import sys

from emotion2vec_ui.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
