"""Where parameters are used in one pass, and what their gradients are made of, sample by sample."""
