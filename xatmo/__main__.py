"""``python -m xatmo`` is the command ``xatmo``."""

import sys

from xatmo.cli import main

if __name__ == "__main__":
    sys.exit(main())
