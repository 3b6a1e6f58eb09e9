"""The process beside a training run that serves its page: it reads what the run writes, and plays the clip that fails most.

It is started by ``reporter.Watch``, takes no more of the processors than its share, and ends with the run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from puffer_phc.report.page_server import PageServer
from puffer_phc.report.watch_page import watch_page
from puffer_phc.view.outline import Outline
from puffer_phc.watch.page import Page
from puffer_phc.watch.spec import Spec

if TYPE_CHECKING:
    from puffer_phc.watch.stage import Stage

SHARE = 0.02
"""Of the time, for attempts: they come as often as this allows. One processor core makes them, so that they take no more of it either, and
less where it has other work to do."""

TAKEN = "processor time:"
"""Begins the last line that the process says."""

_GLANCE_SECONDS = 0.5


def serve(spec: Spec) -> None:
    """Serve the page until the run ends."""
    page = Page(spec)
    content = watch_page(Path(spec.run_dir).name, Outline().describe())
    server = PageServer(spec.host, spec.port, content, {"/state": page.state, "/attempt": page.attempt}, {"/choose": page.choose})
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    yield_to_others()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    start = _play(spec, page, ended)
    server.close()
    sys.stdout.write(f"{TAKEN} {start:.2f} s to start, {time.process_time() - start:.2f} s since\n")


def _play(spec: Spec, page: Page, ended: threading.Event) -> float:
    """Refresh the page and make attempts, as often as ``SHARE`` allows, or at once when somebody chooses a clip.

    Returns the processor seconds until the first attempt was there. They are spent once, so that the second may follow at once.
    """
    stage: Optional[Stage] = None
    number, allowed_at, start = 0, 0.0, time.process_time()
    while not ended.wait(_GLANCE_SECONDS):
        page.refresh()
        is_due = time.monotonic() >= allowed_at or page.has_request.is_set()
        if not is_due or not Path(spec.policy).exists():
            continue
        page.has_request.clear()
        try:
            stage = stage or _open_stage(Path(spec.policy))
            spent, attempt = _timed(stage, page.next_clip(stage.names, number))
        except Exception as error:  # curves and table are worth having without a humanoid
            page.message, allowed_at = f"nothing moves here: {error}", time.monotonic() + 60.0
            continue
        page.show(attempt)
        if number == 0:
            spent, start = 0.0, time.process_time()
        number, allowed_at = number + 1, time.monotonic() + spent / SHARE
    return start


def _open_stage(policy_path: Path) -> Stage:
    from puffer_phc.watch.stage import Stage  # an engine and all that learns, which take seconds to load: the page comes first

    return Stage(policy_path)


def _timed(stage: Stage, name: str) -> Tuple[float, Dict[str, Any]]:
    """An attempt and the seconds that it took."""
    start = time.monotonic()
    attempt = stage.attempt(name)
    return time.monotonic() - start, attempt


def yield_to_others() -> None:
    """Let the run have the processors when it wants them, once the page is there; on Windows the run has seen to it."""
    if hasattr(os, "nice"):
        os.nice(10)


if __name__ == "__main__":
    serve(Spec(**json.loads(sys.argv[1])))
