"""Methods at their best: settings searched by successive halving, on seeds that are used for nothing else."""
