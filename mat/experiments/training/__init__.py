"""Make one run: loop, resume, batches ahead, checkpoints, run directory, identity of code."""
