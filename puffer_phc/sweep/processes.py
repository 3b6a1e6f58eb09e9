"""Processes that outlive the sweep where it is killed, and are found again by the one that goes on."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from puffer_phc.files import log_for_others

_GRACE_SECONDS = 90.0
"""For a training to end its iteration and save; then it is killed."""

_AFTER_A_LINE = ("/bin/sh", "-c", 'read -r line && exec "$@" </dev/null', "sh")
"""Before a command: it becomes that command, under the same id, when a line comes, and ends where whoever would write it is gone."""


class Job:
    """A process in a session of its own, with everything that it prints in a file. It waits for ``begin``.

    So its identity can be written down before it does anything: no sweep that is killed leaves a training that nobody knows of.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log_for_others(log) as file:
            self._process = subprocess.Popen(
                [*(_AFTER_A_LINE if os.name == "posix" else ()), *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=str(log.parent),
                start_new_session=True,
            )
        self.started = time.monotonic()
        self._asked = 0.0

    def begin(self) -> None:
        """Let it do its work; where it has ended already, ``exit_code`` says how."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as line:
            line.write(b"\n")

    @property
    def identity(self) -> Dict[str, Any]:
        """What finds it again: its id, and when it was born, because ids are used again."""
        return {"id": self._process.pid, "born": born(self._process.pid)}

    @property
    def exit_code(self) -> Optional[int]:
        """None while it runs, negative where a signal ended it."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to end, once; kill it where it takes too long. To be called again until there is an ``exit_code``."""
        if self._process.poll() is not None:
            return
        if not self._asked:
            self._asked = time.monotonic()
            self._process.terminate()
        elif time.monotonic() - self._asked > _GRACE_SECONDS:
            kill_group(self._process.pid)


def born(process: int) -> Optional[str]:
    """A text that two processes with the same id do not share; None where there is no such process, or no way to know."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
    except OSError:
        pass
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(process)], capture_output=True, text=True, check=True, timeout=10)
        return shown.stdout.strip() or None
    return None


def is_running(identity: Optional[Mapping[str, Any]]) -> bool:
    """Whether the process of this ``Job.identity`` lives on."""
    return (
        identity is not None and identity["born"] is not None and born(identity["id"]) == identity["born"] and not _is_dead(identity["id"])
    )


def _is_dead(process: int) -> bool:
    """Whether it has ended and nobody has asked how."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] in ("Z", "X")
    except OSError:
        return False


def end_orphans(identities: Sequence[Optional[Mapping[str, Any]]]) -> List[bool]:
    """End what an earlier sweep left running, all at once, giving them time to save; returns which were."""
    were_running = [is_running(identity) for identity in identities]
    left = [identity for identity, was_running in zip(identities, were_running) if identity is not None and was_running]
    for identity in left:
        with contextlib.suppress(OSError):
            os.kill(identity["id"], signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(map(is_running, left)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for identity in filter(is_running, left):
        kill_group(identity["id"])
    return were_running


def kill_group(process: int) -> None:
    """Kill a process that leads a session, and what it has started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGTERM)
