"""The run's side of watching: it starts the process that serves the page, and leaves it the policy now and then."""

import contextlib
import json
import logging
import math
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Dict

from puffer_phc.addresses import page_url
from puffer_phc.config import Config, chosen
from puffer_phc.errors import CheckpointError
from puffer_phc.files import log_for_others
from puffer_phc.learn.checkpoint import Checkpoint, save_checkpoint, without_critic
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.resources import child_environment
from puffer_phc.watch.spec import Spec

_logger = logging.getLogger(__name__)

_SHARE = 0.005
"""Of the run's time that may go into writing the policy."""
_LEAST_SECONDS = 5.0
_ENDING_SECONDS = 5.0


class Watch:
    """Serves the page of a run from a process of its own, as a reporter among the others.

    It leaves ``policy`` as it is at the time for the page's process, which reads the rest from the files in ``run_dir``. That process gets
    no GPU, one thread and a low priority; what it says goes to watch.log. ``clock`` gives s. Raises OSError where that can't be written.
    """

    def __init__(self, config: Config, run_dir: Path, policy: PHCPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._network, self._clock = asdict(config), policy, clock
        self._log, self._is_missed = run_dir / "watch.log", False
        options = config.train
        self.url = page_url(options.watch_host, options.watch_port)
        with log_for_others(self._log) as log:
            self._folder = Path(tempfile.mkdtemp(prefix="puffer_phc_watch_"))
            self.policy_path, self._next = self._folder / "policy.pt", -math.inf
            spec = Spec(
                run_dir=str(run_dir.absolute()),
                policy=str(self.policy_path),
                host=options.watch_host,
                port=options.watch_port,
                total_steps=chosen(options.total_timesteps),
            )
            environment = {**child_environment(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "puffer_phc.watch.process", json.dumps(spec._asdict())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run, which ends the page when its last iteration is over
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
            )

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Leave the policy where the page's process finds it, if the last time was long enough ago for what it cost."""
        if self._clock() < self._next or self._has_ended():
            return
        start = self._clock()
        with contextlib.suppress(CheckpointError):
            network = self._network
            saved = Checkpoint(self._options, network.state_dict(), network.observation_size, network.action_size, None)
            save_checkpoint(self.policy_path, without_critic(saved))
        cost = self._clock() - start
        self._next = start + max(_LEAST_SECONDS, cost / _SHARE)

    def _has_ended(self) -> bool:
        """Whether the page's process is gone, which is said once; the run goes on without it."""
        has_ended = self.process.poll() is not None
        if has_ended and not self._is_missed:
            _logger.warning("nobody can watch any more: the process of the page has ended, and '%s' says why", self._log)
        self._is_missed = has_ended
        return has_ended

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """The page's process reads evaluations from the run's folder."""

    def message(self, text: str) -> None:
        """Messages stay on the terminal."""

    def close(self) -> None:
        """End the page's process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
