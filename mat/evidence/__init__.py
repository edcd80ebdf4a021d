"""From run directories to tables, statistics and verdicts; reads files only and never imports torch."""
