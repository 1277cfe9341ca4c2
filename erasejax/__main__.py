"""`python -m erasejax`."""

import sys

from erasejax.cli import main

if __name__ == "__main__":
    sys.exit(main())
