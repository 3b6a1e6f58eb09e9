"""How a sweep starts its trainings: command lines, variables, and where their figures will be."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from puffer_phc.config import Config, chosen
from puffer_phc.errors import ConfigError
from puffer_phc.files import whole_file
from puffer_phc.learn.run_folder import LATEST
from puffer_phc.option_words import SWEPT_SECTIONS, words_of
from puffer_phc.options import Parsed, assemble, checkpoint_values, dotted
from puffer_phc.resolve import resolve
from puffer_phc.resources import child_environment
from puffer_phc.sweep.protocol import Params

_EMPTY_INI = "# Runs of this sweep are given their options on the command line alone.\n"


class TrainingLauncher:
    """Starts trainings with the options of ``arguments`` and those that are swept, by the command line that a person would use."""

    def __init__(self, arguments: Parsed, folder: Path, device: torch.device) -> None:
        self._config, self._device = arguments.sections(), device
        self._checkpoint = arguments.checkpoint_path
        self._ini = folder / "empty.ini"
        with whole_file(self._ini) as temporary:
            temporary.write_text(_EMPTY_INI, encoding="utf-8")
        saved = checkpoint_values(arguments.checkpoint.config) if arguments.checkpoint is not None else {}
        self._without = {**dotted(Config()), **saved}

    def command(self, params: Params, folder: Path) -> List[str]:
        """What trains in ``folder``, or goes on with what an earlier process has left there."""
        program = [sys.executable, "-m", "puffer_phc.start", "--config", str(self._ini)]
        if self.can_resume(folder):
            return [*program, "--resume", str(_run_dir(folder))]
        if self._checkpoint is not None:
            program += ["-c", str(self._checkpoint.absolute())]
        options = {**self._changed(), **params, "train.data_dir": str(folder.absolute()), "train.watch": False}
        options["train.device"] = self._device.type
        interval = self._eval_interval(params)
        if interval is not None:
            options["train.eval_interval"] = interval
        return program + [word for name, value in options.items() for word in words_of(name, value)]

    def can_resume(self, folder: Path) -> bool:
        """Whether a training has saved something in ``folder``."""
        return _run_dir(folder) is not None

    def environment(self, device: Optional[str]) -> Dict[str, str]:
        """This process's variables, with ``device`` alone visible."""
        return {**child_environment(), **({} if device is None else {"CUDA_VISIBLE_DEVICES": device})}

    def metrics(self, folder: Path) -> Path:
        """The training's metrics file; one that does not exist before it has begun."""
        found = sorted(folder.glob("*/metrics.jsonl"))
        return found[0] if found else folder / "metrics.jsonl"

    def total_steps(self, params: Params) -> Optional[int]:
        """Environment steps of a whole run; None where the options do not fit each other."""
        resolved = self._resolved(params)
        return None if resolved is None else resolved.train.total_timesteps

    def common(self) -> Dict[str, Any]:
        """What all trainings begin with: options that differ from the defaults, and whose weights."""
        return {**self._changed(), **({} if self._checkpoint is None else {"checkpoint": str(self._checkpoint.absolute())})}

    def _changed(self) -> Dict[str, Any]:
        """Options that differ from what a training without any would have."""
        values = dotted(self._config)
        relevant = [name for name in values if name.partition(".")[0] in (*SWEPT_SECTIONS, "eval")]
        return {name: values[name] for name in relevant if values[name] != self._without[name]}

    def _resolved(self, params: Params) -> Optional[Config]:
        try:
            config = assemble({**dotted(self._config), **params}).sections()
            return resolve(replace(config, env=replace(config.env, max_resident_frames=0)), torch.device(self._device.type))
        except ConfigError:
            return None

    def _eval_interval(self, params: Params) -> Optional[int]:
        """Iterations between evaluations, such that there are as many as asked for; None where the training will refuse its options."""
        resolved = self._resolved(params)
        if resolved is None:
            return None
        batches = math.ceil(chosen(resolved.train.total_timesteps) / chosen(resolved.train.batch_size))
        first = 1 if self._checkpoint is None else 0  # a new policy only looks at it, for the statistics of what it sees
        return max(1, math.ceil((batches - first) / self._config.sweep.evaluations))


def _run_dir(folder: Path) -> Optional[Path]:
    """The folder that a training has made in ``folder``, where it has saved something to go on with."""
    return next((path.parent for path in sorted(folder.glob(f"*/{LATEST}"))), None)
