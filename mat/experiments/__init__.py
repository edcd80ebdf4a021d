"""The harness: tasks and models trained by methods, and what is measured beside the runs."""
