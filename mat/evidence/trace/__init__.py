"""From data to figures by hashes, and from a number of a table back to its runs."""
