"""Make one run: its loop, batches ahead, evaluation, resuming, checkpoints, folder, and what its code and cost are."""
