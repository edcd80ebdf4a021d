"""The reference results that are committed: made from the runs' records, and made again to be compared with."""
