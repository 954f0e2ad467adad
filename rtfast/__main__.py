"""`python -m rtfast`: the command line without an installed `rtfast` script."""

import sys

from rtfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
