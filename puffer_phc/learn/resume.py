"""What a training needs to go on, gathered from those who own it, and given back to them: to as many processes as there were, or others."""

from typing import Any, Dict, List, NamedTuple

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
_OTHER_ROWS = "other processes or environments than the checkpoint's, or a compact one: all rows begin new episodes"
_OTHER_SHARDS = "clips are shared out among other processes than the checkpoint's: samplers start anew"


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

    def state(self) -> Dict[str, Any]:
        """What is the same in every process, and under ``ranks`` what each has for itself. All processes have to call it together."""
        return {**self._shared_state(), "ranks": self.world.gather(on_cpu(self._own_state()))}

    def take_up(self, state: Dict[str, Any]) -> List[str]:
        """Go on from ``state``; returns what could not, in words. With as many processes and environments that is nothing.

        Other numbers of them, and a compact checkpoint, begin new episodes; after a compact checkpoint the optimiser warms up.
        Raises ValueError where the run had another discriminator, or one where there is none now, or none where there is one.
        """
        self.updater.load_shared(state)
        is_whole = "optimizer" in state
        if is_whole:
            self.recovery.load_state_dict(state["recovery"])
            self.style.load_shared(state["style"])
        anew = [] if is_whole else [ANEW, *([_STYLE_ANEW] if self.style.parts else [])]
        return [*anew, *self._take_up_own(state["ranks"])]

    def begin_new_episodes(self) -> None:
        """In every row, with nothing remembered."""
        self.env.reset()
        self.collector.memory.zero_()

    def _shared_state(self) -> Dict[str, Any]:
        return {**self.updater.shared_state(), "recovery": self.recovery.state_dict(), "style": self.style.shared_state()}

    def _own_state(self) -> Dict[str, Any]:
        return {
            "sampler": self.env.sampler.state_dict(),
            "env": self.env.snapshot(),
            "memory": self.collector.memory.clone(),
            "style": self.style.own_state(),
            "random": self.random.generator.get_state(),
            "shuffle": self.updater.own_state(),
        }

    def _take_up_own(self, ranks: List[Dict[str, Any]]) -> List[str]:
        """This process's own state, or what of the first one's holds for any."""
        is_same = len(ranks) == self.world.size
        own = ranks[self.world.rank if is_same else 0]
        if self.is_sharded and not is_same:
            self.begin_new_episodes()
            return [_OTHER_ROWS, _OTHER_SHARDS]
        self.env.sampler.load_state_dict(own["sampler"])
        if not (is_same and "env" in own and self.env.fits(own["env"])):
            self.begin_new_episodes()
            return [_OTHER_ROWS]
        self.random.generator.set_state(own["random"])
        self.updater.load_own(own["shuffle"])
        self.env.restore(own["env"])
        self.collector.memory.copy_(own["memory"])
        self.style.load_own(own["style"])
        return []


def on_cpu(state: Any) -> Any:
    """``state`` (dictionaries, lists, tensors, plain values) with its tensors on the CPU, where they can be sent and saved."""
    if isinstance(state, dict):
        return {name: on_cpu(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [on_cpu(value) for value in state]
    return state.cpu() if isinstance(state, Tensor) else state
