"""``mat`` and ``python -m mat``: imports nothing of the harness until it is known to be installed."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command line, or hand it over to a server where one is named; 2, with one line, where only the library
    is installed."""
    if argv is None:
        from mat.experiments.cli.handover import handed_over

        argv = sys.argv[1:]
        status = handed_over(argv)
        if status is not None:
            return status
    try:
        from mat.experiments.cli.main import main as run

        return run(argv)
    except KeyboardInterrupt:  # while it is imported
        print("mat: interrupted; give the same command again", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "mat"):
            raise
        print(
            f"mat: error: this command needs {missing}, which is not installed; "
            'get the pipeline\'s packages with: pip install "mat-reference[experiments]"',
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
