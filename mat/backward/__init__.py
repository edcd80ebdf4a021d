"""Skip: the backward pass without inactive modules, and the user's optimizer over what trains."""

from typing import Any

__all__ = ["SparseBackward"]


def __getattr__(name: str) -> Any:
    """Loaded on first use: the names of modes are read without torch."""
    if name in __all__:
        from mat.backward.sparse import SparseBackward

        return SparseBackward
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
