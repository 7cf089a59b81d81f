"""`python -m emotion2vec_ui`."""

import sys

from emotion2vec_ui.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
