"""One file per measure of the claims file: how it is read off pooled runs, and decided.

A file's ``RULE`` is found by the file's name. Thresholds come from ``workflows/claims.yaml``; none is written here.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from mat.errors import InputError
from mat.evidence.claims.rule import Rule


@cache
def rule_named(measure: str) -> Rule:
    """The rule of a measure. Raises InputError listing the known ones."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if measure not in known:
        raise InputError(f"unknown measure '{measure}' in the claims file: expected one of {', '.join(known)}")
    return importlib.import_module(f"{__name__}.{measure}").RULE
