"""Records that travel: finished runs in one zip file, without weights or states."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from mat.records.files import replacing
from mat.records.run import FILES, read_run

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say


def export(folders: Iterable[Path], out: Path) -> None:
    """Write the records of these run directories to the zip file ``out``. Raises InputError for one that is not whole,
    or not as it was written."""
    with replacing(out) as half, zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            run = read_run(folder).run
            for name in FILES:
                entry = zipfile.ZipInfo(f"{run['labels']['scale']}/runs/{run['name']}/{name}", _EPOCH)
                archive.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
