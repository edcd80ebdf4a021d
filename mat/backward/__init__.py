"""Skip: the backward pass without inactive modules, and the user's optimizer over what trains."""

from mat.backward.sparse import SparseBackward

__all__ = ["SparseBackward"]
