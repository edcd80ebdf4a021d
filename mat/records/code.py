"""Code by module: two results may stand in one table when every module that both stand on is the same."""

from __future__ import annotations

from collections.abc import Mapping

from mat.errors import InputError

Modules = Mapping[str, str]  # hash by module


def differences(theirs: Modules, ours: Modules) -> list[str]:
    """Modules of ``ours`` that are not the same in ``theirs``, where all of it should be."""
    return sorted(name for name, digest in ours.items() if theirs.get(name) != digest)


def refuse_mixture(what: str, codes: Mapping[str, Modules]) -> None:
    """Raise InputError, naming a module and who has which, unless every module has one hash in all ``codes``."""
    first: dict[str, str] = {}
    for name, modules in codes.items():
        for module, digest in modules.items():
            other = first.setdefault(module, name)
            if codes[other][module] != digest:
                raise InputError(
                    f"refusing to pool {what} of different code: {module} is {codes[other][module]} in {other} and "
                    f"{digest} in {name}; leave out or repeat those of the other version"
                )
