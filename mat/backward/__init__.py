"""Skip: the backward pass without inactive modules, and the user's optimizer over what trains."""
