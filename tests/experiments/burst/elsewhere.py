"""``mat`` as a machine runs it that lacks packages: some are not there, some only among what was carried along."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

GONE = {"datasets", "pyarrow", "snakemake"}
CARRIED = {"fvcore", "iopath", "yacs"}


class Elsewhere:
    """Finds no package of ``GONE``, and those of ``CARRIED`` in that folder alone."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return PathFinder.find_spec(name, ["carried"]) if name in CARRIED else None


if __name__ == "__main__":
    sys.meta_path.insert(0, Elsewhere())
    from mat.__main__ import main

    sys.exit(main(sys.argv[1:]))
