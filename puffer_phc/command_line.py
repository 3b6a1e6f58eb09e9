"""How every command ends: what the user can mend as one line and exit code 2, Ctrl-C as shells have it, all else as a traceback."""

import contextlib
import os
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
        _say(f"puffer-phc: {' '.join(str(error).splitlines())}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        _say("interrupted\n")
        return INTERRUPTED
    finally:
        _let_go_of_output()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(line)


def _let_go_of_output() -> None:
    """Write out what is still held back, or drop it where the disk is full or the reader is gone: it is no reason to end in an error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
