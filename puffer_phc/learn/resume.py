"""What a training needs to go on, got from those who own it and given back to them: in as many processes as there were, or others."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from torch import Tensor

from puffer_phc.env.puffer import PufferImitation
from puffer_phc.learn.distributed import World
from puffer_phc.learn.learning_rate import WARM_UP_ITERATIONS
from puffer_phc.learn.recovery import Recovery
from puffer_phc.learn.rollout import Collector
from puffer_phc.learn.style import AnyStyle
from puffer_phc.learn.update import Updater
from puffer_phc.randomness import EnvRandom

ANEW = f"the optimiser starts anew: the learning rate rises over the next {WARM_UP_ITERATIONS} iterations"
"""What is said where weights come without the optimiser that made them."""

_STYLE_ANEW = "the discriminator starts anew: compact checkpoints have none"
_NEW_EPISODES = (
    "not every process finds what it had for itself (other numbers of processes or environments, "
    "a compact checkpoint, a process that was lost): all rows begin new episodes"
)
_NEW_SAMPLERS = "clips are shared out among processes, and these find no sampler of their own: samplers start anew"


class Resumable(NamedTuple):
    """The owners of a training's state, but for the policy, which a checkpoint holds apart."""

    updater: Updater
    style: AnyStyle
    recovery: Recovery
    env: PufferImitation
    collector: Collector
    random: EnvRandom
    world: World
    is_sharded: bool
    """Whether every process has clips of its own, which depend on how many there are."""

    def take_up(self, state: Dict[str, Any], own: Optional[Dict[str, Any]]) -> List[str]:
        """Go on from ``state``, and ``own_state`` where it is known; returns what could not, in words. All processes call it together.

        Where some process does not know its own, or not for as many environments, all begin new episodes. After a compact checkpoint the
        optimiser warms up.
        Raises ValueError where the run had another discriminator, or one where there is none now, or none where there is one.
        """
        self.updater.load_shared(state)
        is_whole = "optimizer" in state
        if is_whole:
            self.recovery.load_state_dict(state["recovery"])
            self.style.load_shared(state["style"])
        anew = [] if is_whole else [ANEW, *([_STYLE_ANEW] if self.style.parts else [])]
        return [*anew, *self._take_up_own(state["ranks"][0]["sampler"], own)]

    def begin_new_episodes(self) -> None:
        """In every row, with nothing remembered."""
        self.env.reset()
        self.collector.memory.zero_()

    def shared_state(self) -> Dict[str, Any]:
        """What is the same in every process, but for what the policy holds."""
        return {**self.updater.shared_state(), "recovery": self.recovery.state_dict(), "style": self.style.shared_state()}

    def own_state(self) -> Dict[str, Any]:
        """What each process has for itself, on the CPU."""
        state = {
            "sampler": self.env.sampler.state_dict(),
            "env": self.env.snapshot(),
            "memory": self.collector.memory.clone(),
            "style": self.style.own_state(),
            "random": self.random.generator.get_state(),
            "shuffle": self.updater.own_state(),
        }
        return with_tensors(state, Tensor.cpu)

    def _take_up_own(self, sampler: Dict[str, Any], own: Optional[Dict[str, Any]]) -> List[str]:
        """The ``own`` state, or where some process knows none the first one's ``sampler``."""
        is_unknown = self.world.any(own is None)
        if own is None or is_unknown:
            return self._begin_with(sampler)
        self.env.sampler.load_state_dict(own["sampler"])
        if not self.env.fits(own["env"]):
            self.begin_new_episodes()
            return [_NEW_EPISODES]
        self.random.generator.set_state(own["random"])
        self.updater.load_own(own["shuffle"])
        self.env.restore(own["env"])
        self.collector.memory.copy_(own["memory"])
        self.style.load_own(own["style"])
        return []

    def _begin_with(self, sampler: Dict[str, Any]) -> List[str]:
        """New episodes, by ``sampler`` unless that may be of other clips."""
        if not self.is_sharded:
            self.env.sampler.load_state_dict(sampler)
        self.begin_new_episodes()
        return [_NEW_EPISODES, *([_NEW_SAMPLERS] if self.is_sharded else [])]


def with_tensors(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``state`` (dictionaries, lists, tensors, plain values) with ``change`` made to its tensors."""
    if isinstance(state, dict):
        return {name: with_tensors(value, change) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [with_tensors(value, change) for value in state]
    return change(state) if isinstance(state, Tensor) else state
