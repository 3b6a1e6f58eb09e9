"""How every command ends: what the user can mend as one line and exit code 2, Ctrl-C as shells have it, all else as a traceback."""

import sys
from typing import Callable

from puffer_phc.errors import PhcError

USER_ERROR = 2
"""Exit code of an error that the user can mend."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run_main(work: Callable[[], int], debug: bool = False) -> int:
    """The exit code of ``work``; our own errors and those of files are one line on stderr, or a traceback with ``debug``."""
    try:
        return work()
    except (PhcError, OSError) as error:
        if debug:
            raise
        sys.stderr.write(f"puffer-phc: {' '.join(str(error).splitlines())}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
