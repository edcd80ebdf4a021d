"""The cache's own mirror: files of the Hugging Face hub at a pinned commit, downloaded once and checked."""

from __future__ import annotations

import json
from pathlib import Path

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import cached, remove
from mat.experiments.tasks.storage.mirror import Source, describe


def download(source: Source, cache: Path) -> Path:
    """Root of a mirror in ``cache`` that holds ``source``.

    What is complete is not asked for again. An interrupted download goes on where it was: whole files stay.

    Raises:
        InputError: the hub could not be read, or what came is not what is published; that is removed, and the next
            try starts anew.
    """
    root = cache / "hub" / source.revision
    name = f"{source.repo} {source.part}".replace("/", "--").replace(" ", "--")

    def make(partial: Path) -> None:
        _ask(source, root / source.repo)
        partial.write_text(json.dumps(_checked(source, root)))

    def read(mark: Path) -> None:
        for file in json.loads(mark.read_text())["files"]:
            if (root / file["name"]).stat().st_size != file["bytes"]:
                raise ValueError(f"{file['name']} is not what was downloaded")

    cached(root / f"{name}.json", make, read)
    return root


def _ask(source: Source, folder: Path) -> None:
    """Download what of ``source`` is not yet in ``folder``, the repository's."""
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(
            source.repo,
            repo_type=source.repo_type,
            revision=source.revision,
            allow_patterns=[source.pattern],
            local_dir=folder,
        )
    except Exception as error:  # of the network, the server or the client: the advice is the same
        raise InputError(
            f"Expected to download {source.part} of {source.repo} at revision {source.revision[:12]} from the "
            f"Hugging Face hub, got {type(error).__name__}: {' '.join(str(error).split())}; check the connection "
            "and ask again (whole files stay), or give the root of a mirror in hub layout in the setting "
            "'data' (MAT_DATA)."
        ) from error


def _checked(source: Source, root: Path) -> dict:
    """`describe` of what was downloaded; what is damaged or not complete is removed."""
    try:
        found = describe(source, root)
        if found["complete"] is False:
            raise InputError(
                f"Expected {found['official_rows']} rows in {source.part} of {source.repo} at revision "
                f"{source.revision[:12]}, got {found['rows']}."
            )
    except InputError as error:
        for path in (root / source.repo).glob(source.pattern):
            remove(path)
        raise InputError(
            f"{error} This was downloaded from the Hugging Face hub and has been removed: ask again, or give the "
            "root of a mirror in the setting 'data' (MAT_DATA)."
        ) from error
    return found
