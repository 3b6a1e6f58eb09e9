"""How every command speaks and ends: what the user can mend is one line and exit code 2, Ctrl-C as shells have it, all else a traceback."""

import contextlib
import errno
import io
import os
import select
import shlex
import sys
from pathlib import Path
from typing import Any, Callable, List, Optional, TextIO

from rich.console import Console, RenderableType

from puffer_phc.config import EnvConfig
from puffer_phc.errors import PhcError
from puffer_phc.resources import resource_root

USER_ERROR = 2
"""Exit code of an error that the user can mend."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

TERMINATED = 143
"""Exit code after SIGTERM, likewise."""

_ENDINGS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


class TerminatedError(KeyboardInterrupt):
    """SIGTERM has come: what tidies up after Ctrl-C does it after this, too."""


class Terminal(Console):
    """Where a program writes. A reader who is gone is an ``OSError``, as a full disk is; rich would end the program.

    Text stands as it is: rich would take ``[x]`` and ``:boom:`` in a path or a clip's name for a colour and a picture.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, markup=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """What rich asks when the reader is gone."""
        self.quiet = True
        self.print()  # forgets what is still to be written
        self.quiet = False
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Aside(Terminal):
    """Where a program speaks beside its work: a reader who is gone misses the rest, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Write nothing more."""
        self.quiet = True


def run_main(work: Callable[[], int], debug: bool = False) -> int:
    """The exit code of ``work``; our own errors and those of files are one line on stderr, or a traceback with ``debug``.

    A reader who has seen enough (``| head``) is none: where text is all that there is to do, that ends the work quietly, with 0.
    """
    _write_any_text()
    try:
        return work()
    except (PhcError, OSError) as error:
        if isinstance(error, BrokenPipeError) and any(map(_is_unread, (sys.stdout, sys.stderr))):
            return 0
        if debug:
            raise
        _complain(f"puffer-phc: {' '.join(str(error).splitlines())}\n")
        return USER_ERROR
    except TerminatedError:
        return told_to_end(TERMINATED)
    except KeyboardInterrupt:
        return told_to_end(INTERRUPTED)
    finally:
        _let_go_of_output()


def told_to_end(code: int) -> int:
    """Say that a signal ends the program; returns its exit code, which is ``code``."""
    _complain(f"{_ENDINGS[code]}\n")
    return code


def say(line: str) -> None:
    """One line on the terminal, as it is and without breaks. None where nobody reads it."""
    with contextlib.suppress(OSError):
        Aside().print(line, soft_wrap=True)


def show(table: RenderableType) -> None:
    """A table on the terminal. None where nobody reads it."""
    with contextlib.suppress(OSError):
        Aside().print(table)


def again(words: List[str], motion_file: Optional[str] = None, num_processes: int = 1) -> str:
    """What a user types to run this program again with ``words``, on the same motions: a checkpoint does not bring them along."""
    script = sys.argv[0]
    launcher = ["torchrun", "--nproc_per_node", str(num_processes)]
    if num_processes > 1:
        program = [*launcher, script] if script.endswith(".py") else [*launcher, "-m", "puffer_phc.start"]
    else:
        program = ["python", script] if script.endswith(".py") else [Path(script).name]
    is_default = motion_file is None or Path(motion_file) == resource_root() / EnvConfig.motion_file
    return " ".join(shlex.quote(word) for word in program + words + ([] if is_default else ["-m", str(motion_file)]))


def _write_any_text() -> None:
    """Let no character that a terminal does not know, nor a file's name that is no text, end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_unread(stream: TextIO) -> bool:
    """Whether whoever read what is written there is gone. Where output isn't held back, a flush doesn't tell."""
    try:
        stream.flush()
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return bool(poll.poll(0))
    except BrokenPipeError:
        return True
    except (AttributeError, OSError, ValueError):  # Windows has no poll, a closed stream no number
        return False


def _complain(line: str) -> None:
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
