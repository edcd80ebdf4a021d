"""What differs between two runs, or between two folders of tables: curves, headline numbers, verdicts."""
