"""The command line: the one room that sees everything."""
