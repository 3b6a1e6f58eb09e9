"""What to do when training goes wrong: go back to the last good state with smaller steps, or stop."""

import copy
import math
from typing import Any, Dict, Mapping, Optional, Protocol

from puffer_phc.errors import TrainingError
from puffer_phc.learn.optimizer import is_finite

STEP_FACTOR = 0.5
"""Each return to a good state makes the learning rate smaller by this."""

MAX_ROLLBACKS = 5
"""A run that went wrong as often does not mend itself by smaller steps."""

EXPLODED_SHARE = 0.05
"""An iteration is bad where more environment steps than this share ended in states that are not finite or sane."""


class Stateful(Protocol):
    """A network, an optimiser."""

    def state_dict(self) -> "dict[str, Any]":
        """All that ``load_state_dict`` needs."""
        ...

    def load_state_dict(self, state_dict: Any) -> object:
        """Go back to a ``state_dict``."""
        ...


def fault(metrics: Mapping[str, float], num_steps: int) -> Optional[str]:
    """What was wrong with an iteration of ``num_steps`` environment steps, by its figures; None where nothing was."""
    skipped, diverged = metrics.get("losses/skipped_steps", 0.0), metrics.get("environment/diverged", 0.0)
    if skipped > 0:
        return f"{skipped:.0f} gradients were not finite and left out"
    skipped = metrics.get("losses/disc_skipped_steps", 0.0)
    if skipped > 0:
        return f"{skipped:.0f} gradients of the discriminator were not finite and left out"
    if not math.isfinite(metrics["losses/total_loss"]):
        return f"the loss is {metrics['losses/total_loss']}"
    if diverged > EXPLODED_SHARE * num_steps:
        return f"{diverged:.0f} of {num_steps} environment steps diverged"
    return None


class Recovery:
    """Remembers the last good state of ``parts`` and goes back to it after ``patience`` bad iterations in a row.

    Every process keeps its own copy and judges by figures that are the same in all of them, so that all go back together. With
    ``rolls_back`` false, and after ``MAX_ROLLBACKS``, it raises TrainingError instead.
    """

    def __init__(self, parts: Mapping[str, Stateful], patience: int, rolls_back: bool) -> None:
        self._parts, self._patience, self._rolls_back = parts, patience, rolls_back
        self._good: Dict[str, Any] = {}
        self._good_iteration = 0
        self.step_factor = 1.0
        """Factor on the learning rates."""
        self.rollbacks = 0
        self.bad_iterations = 0
        """In a row, up to now."""

    def keep(self, iteration: int) -> None:
        """Remember the present state as good, unless the last iteration was bad or left what is not finite: its figures need not tell."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        if (self.bad_iterations == 0 and is_finite(state)) or not self._good:
            self._good, self._good_iteration = copy.deepcopy(state), iteration

    def judge(self, wrong: Optional[str], iteration: int) -> Optional[str]:
        """Note how an iteration went (``fault``); returns what was done about it, and whether the state went back: see ``rollbacks``."""
        if wrong is None:
            self.bad_iterations = 0
            return None
        self.bad_iterations += 1
        line = f"iteration {iteration}: {wrong}"
        if self.bad_iterations < self._patience:
            return line
        if not self._rolls_back or self.rollbacks >= MAX_ROLLBACKS:
            raise TrainingError(
                f"{line}; {self.bad_iterations} bad iterations in a row after {self.rollbacks} rollbacks; "
                f"the last good state is that of iteration {self._good_iteration}"
            )
        return f"{line}; {self._go_back()}"

    def _go_back(self) -> str:
        for name, part in self._parts.items():
            part.load_state_dict(copy.deepcopy(self._good[name]))
        self.bad_iterations = 0
        self.rollbacks += 1
        self.step_factor *= STEP_FACTOR
        return f"back to the weights of iteration {self._good_iteration} with {self.step_factor:g} of the learning rate"

    def state_dict(self) -> Dict[str, float]:
        """The counters; the good state is that of the checkpoint they are saved in."""
        return {"step_factor": self.step_factor, "rollbacks": self.rollbacks, "bad_iterations": self.bad_iterations}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.step_factor, self.rollbacks = float(state["step_factor"]), int(state["rollbacks"])
        self.bad_iterations = int(state["bad_iterations"])
