"""The command line: one function per mode, and every error of ours as one line with exit code 2."""

import contextlib
import logging
import sys
from importlib import import_module
from typing import List, Optional, Sequence

from puffer_phc.command_line import run_main
from puffer_phc.errors import ConfigError
from puffer_phc.options import parse_options
from puffer_phc.resources import num_processes

_MODES = {"train": "train", "eval": "evaluate", "play": "play", "sweep": "sweep"}
"""The function of each mode, in the module of its name in ``commands``: who trains loads no viewer, who plays no optimiser."""

_SHARED = ("train", "eval")
"""Modes that several processes divide among them."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run what the command line (default: this process's) asks for; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("puffer_phc").setLevel(logging.INFO)
    return run_main(lambda: run_mode(words), "--debug" in words)


def run_mode(words: List[str]) -> int:
    """Run the mode that a command line asks for."""
    arguments = parse_options(words)
    if num_processes() > 1 and arguments.mode not in _SHARED:
        raise ConfigError(f"--mode {arguments.mode} is one process; leave torchrun out, which is for {' and '.join(_SHARED)}")
    name = _MODES[arguments.mode]
    return getattr(import_module(f"puffer_phc.commands.{name}"), name)(arguments)


class CurrentStderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the time: a live dashboard puts itself there, to keep its picture whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, if there is anywhere to write to."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")


if __name__ == "__main__":
    sys.exit(main())
