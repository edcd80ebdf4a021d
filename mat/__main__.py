"""``python -m mat``."""

from __future__ import annotations

import sys

from mat.experiments.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
