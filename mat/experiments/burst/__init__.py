"""A machine with a GPU for some minutes: tests, a benchmark, and as many runs of a task as the time is long."""
