"""What a run writes and evidence reads: file names, columns, keys, and what a run is charged with; imports no torch."""
