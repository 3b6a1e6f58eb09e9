"""What the browser is told of a run, and what it asks for."""

import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from puffer_phc.report.curves import Curves
from puffer_phc.report.metrics_log import SPEED, UPTIME
from puffer_phc.watch.clip_table import ClipTable
from puffer_phc.watch.spec import Spec


class Page:
    """Written by the main thread, read by the server's."""

    def __init__(self, spec: Spec) -> None:
        self._spec, self._run_dir = spec, Path(spec.run_dir)
        self.curves, self.table = Curves(self._run_dir / "metrics.jsonl"), ClipTable(self._run_dir / "clips.tsv")
        self._versions = {"curves": 0, "clips": 0, "attempt": 0}
        self._panels: List[Dict[str, Any]] = self.curves.panels()
        self._rows: List[Dict[str, Any]] = []
        self.chosen: Optional[str] = None
        self.message = ""
        self._attempt: Dict[str, Any] = {}
        self.has_request = threading.Event()

    def refresh(self) -> None:
        """Take in what the run has written since."""
        if self.curves.read():
            self._panels = self.curves.panels()
            self._versions["curves"] += 1
        if self.table.read():
            self._rows = self.table.rows()
            self._versions["clips"] += 1

    def show(self, attempt: Dict[str, Any]) -> None:
        """Let the browser fetch ``attempt``."""
        self._attempt = attempt
        self._versions["attempt"] += 1

    def state(self) -> Dict[str, Any]:
        """Everything but the attempt."""
        last = self.curves.last
        return {
            "step": last.get("0verview/agent_steps"),
            "total": self._spec.total_steps,
            "speed": last.get(SPEED),
            "elapsed": last.get(UPTIME),
            "remaining": last.get("performance/remaining"),
            "panels": self._panels,
            "clips": self._rows,
            "message": self.message,
            "curves_version": self._versions["curves"],
            "clips_version": self._versions["clips"],
            "attempt": self._versions["attempt"],
        }

    def attempt(self) -> Dict[str, Any]:
        """What moves."""
        return self._attempt

    def choose(self, posted: Any) -> None:
        """Play the clip that somebody asked for, or the worst again. Raises ValueError for anything else."""
        clip = posted.get("clip") if isinstance(posted, dict) else posted
        if clip is not None and not isinstance(clip, str):
            raise ValueError(clip)
        self.chosen = clip
        self.has_request.set()

    def next_clip(self, names: Sequence[str], number: int) -> str:
        """The clip that somebody chose, or the one that fails most; before there is an evaluation, all in turn."""
        if self.chosen in names:
            return str(self.chosen)
        order = [name for name in self.table.order() if name in names]
        return order[0] if order else names[number % len(names)]
