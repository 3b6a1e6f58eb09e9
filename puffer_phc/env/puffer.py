"""The environment as PufferLib knows one: spaces, buffers that are rewritten in place, and statistics of episodes."""

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import gymnasium
import numpy as np
import torch
from pufferlib.pufferlib import PufferEnv
from torch import Tensor

from puffer_phc.env.fused import Fused
from puffer_phc.env.imitation import ImitationEnv, StepResult
from puffer_phc.env.rewards import REWARD_TERMS
from puffer_phc.env.style import StyleObserver
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import TrainingSampler

LOG_INTERVAL = 32
"""Steps between the statistics that go out as infos in numpy mode."""

_NUMPY_BUFFERS = ("observations", "rewards", "terminals", "truncations")


def _own(sums: Tensor) -> Tensor:
    """The sums of this process alone."""
    return sums


class EpisodeStatistics:
    """Sums over rows and steps since the last read, on the device; only ``read`` waits for it.

    The last step of an episode, its reward included, counts to the episode that it ends.
    """

    def __init__(self, num_envs: int, device: torch.device) -> None:
        self._returns = torch.zeros(num_envs, device=device)
        self._lengths = torch.zeros(num_envs, device=device)
        self._sums = torch.zeros(len(self._names()), dtype=torch.float64, device=device)
        self._with_step = _with_step

    @staticmethod
    def _names() -> Tuple[str, ...]:
        return ("steps", "episodes", "truncated", "returns", "lengths", "diverged", "lifted", "lifts", *REWARD_TERMS)

    def start(self, rows: Tensor) -> None:
        """Forget the episodes under way in ``rows`` (N,) bool: they begin anew."""
        self._returns.masked_fill_(rows, 0.0)
        self._lengths.masked_fill_(rows, 0.0)

    def add(self, env: ImitationEnv) -> None:
        """Take in the last step of ``env``."""
        own = (self._returns, self._lengths, self._sums)
        for old, new in zip(own, self._with_step(*own, env.result, env.diverged, env.lift)):
            old.copy_(new)

    def compile(self) -> None:
        """Fuse the sums of a step with ``torch.compile``."""
        self._with_step = Fused(_with_step)

    def read(self, total: Callable[[Tensor], Tensor]) -> Dict[str, float]:
        """Means and counts since the last read; those of episodes and resets are missing where there was none."""
        sums = dict(zip(self._names(), total(self._sums.clone()).tolist()))
        self._sums.zero_()
        statistics: Dict[str, float] = {"diverged": sums["diverged"]}
        if sums["steps"] > 0:
            statistics.update({name: sums[name] / sums["steps"] for name in REWARD_TERMS})
        if sums["episodes"] > 0:
            statistics["episode_return"] = sums["returns"] / sums["episodes"]
            statistics["episode_length"] = sums["lengths"] / sums["episodes"]
            statistics["epi_trunc_rate"] = sums["truncated"] / sums["episodes"]
            statistics["episodes"] = sums["episodes"]
            statistics["reset_lift_rate"] = sums["lifted"] / sums["episodes"]
            statistics["reset_lift_mm"] = 1000.0 * sums["lifts"] / sums["episodes"]
        return statistics

    def state(self) -> Dict[str, Tensor]:
        """The tensors themselves, by name."""
        return {"returns": self._returns, "lengths": self._lengths, "sums": self._sums}


def _with_step(
    returns: Tensor, lengths: Tensor, sums: Tensor, result: StepResult, diverged: Tensor, lift: Tensor
) -> Tuple[Tensor, Tensor, Tensor]:
    """``returns`` and ``lengths`` (N,) of the episodes under way, and ``sums``, after one step more. Pure."""
    returns, lengths = returns + result.reward, lengths + 1.0
    done = (result.terminated | result.truncated).float()
    columns = (
        torch.ones_like(done),
        done,
        result.truncated.float(),
        done * returns,
        done * lengths,
        diverged.float(),
        done * (lift > 0),
        done * lift,
    )
    step = torch.cat((torch.stack(columns, dim=-1), result.reward_terms), dim=-1).sum(dim=0)
    return returns * (1.0 - done), lengths * (1.0 - done), sums + step


class PufferImitation(PufferEnv):
    """An ``ImitationEnv`` behind the interface of PufferLib (pufferlib-core 3.0.5).

    Device mode, the default: ``observations`` (N, O), ``rewards``, ``terminals``, ``truncations`` (N,), ``final_observations`` (N, O) and
    ``episodes`` are the environment's own tensors, actions are tensors (N, A), and infos stay empty; ``read_statistics`` gives what they
    would say.
    It passes unchanged through ``pufferlib.vector.make(creator, backend=pufferlib.PufferEnv)``.

    Numpy mode, chosen by ``numpy_buffers`` or by being given ``buf``: buffers and actions are numpy arrays, as PufferLib's Serial and
    Multiprocessing vectorisers want them, and every ``log_interval`` steps the infos hold the statistics.
    """

    observations: Any
    rewards: Any
    terminals: Any
    truncations: Any

    def __init__(
        self,
        env: ImitationEnv[TrainingSampler],
        numpy_buffers: bool = False,
        buf: Optional[Dict[str, np.ndarray]] = None,
        log_interval: int = LOG_INTERVAL,
    ) -> None:
        self.env = env
        self.num_agents = env.num_envs
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.observation_size,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)
        super().__init__(buf)
        self.final_observations, self.episodes = env.result.final_observation, env.episodes
        self._has_numpy_buffers = numpy_buffers or buf is not None
        self._log_interval, self._ticks = log_interval, 0
        self._statistics = EpisodeStatistics(env.num_envs, env.device)
        if self._has_numpy_buffers:
            self._publish()
        else:
            self._use_device_buffers()

    @property
    def sampler(self) -> TrainingSampler:
        """What draws the episodes and learns from how they end."""
        return self.env.sampler

    @property
    def style(self) -> Optional[StyleObserver]:
        """What shows the humanoids to a discriminator, where there is one."""
        return self.env.style

    @property
    def motions(self) -> MotionLibrary:
        """The clips that are imitated."""
        return self.env.motions

    def _device_buffers(self) -> Dict[str, Tensor]:
        result = self.env.result
        return dict(zip(_NUMPY_BUFFERS, (result.observation, result.reward, result.terminated, result.truncated)))

    def _use_device_buffers(self) -> None:
        for name, tensor in self._device_buffers().items():
            setattr(self, name, tensor)
        self.masks = torch.ones(self.num_agents, dtype=torch.bool, device=self.env.device)
        self.actions = torch.zeros(self.num_agents, self.env.action_size, device=self.env.device)

    def _publish(self) -> None:
        """Copy the step's outcome into the numpy buffers."""
        for name, tensor in self._device_buffers().items():
            np.copyto(getattr(self, name), tensor.cpu().numpy())

    def reset(self, seed: Optional[int] = None) -> Tuple[Any, List[Dict[str, float]]]:
        """Begin a new episode in every row; returns observations (N, O) and no infos.

        The seed is not used: random draws belong to the sampler, which was seeded when it was made.
        """
        self.env.reset()
        self._statistics.start(torch.ones_like(self.env.diverged))
        result = self.env.result
        for tensor in (result.reward, result.terminated, result.truncated):
            tensor.zero_()
        if self._has_numpy_buffers:
            self._publish()
        return self.observations, []

    def step(self, actions: Union[Tensor, np.ndarray]) -> Tuple[Any, Any, Any, Any, List[Dict[str, float]]]:
        """Act with ``actions`` (N, A); returns the buffers, rewritten, and infos."""
        self.env.step(actions if isinstance(actions, Tensor) else torch.from_numpy(np.array(actions, dtype=np.float32)).to(self.env.device))
        self._statistics.add(self.env)
        infos: List[Dict[str, float]] = []
        if self._has_numpy_buffers:
            self._publish()
            self._ticks += 1
            if self._ticks % self._log_interval == 0:
                infos.append(self.read_statistics())
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def read_statistics(self, total: Callable[[Tensor], Tensor] = _own) -> Dict[str, float]:
        """Statistics since the last read: the only wait for the device. ``total`` adds up a tensor of sums over processes.

        Per episode ended: ``episode_return``, ``episode_length`` (steps), ``epi_trunc_rate`` (share that reached the clip's end),
        ``reset_lift_rate`` and ``reset_lift_mm`` (how often and how far on average resets raised the body out of the floor), ``episodes``
        (count). Per step: the reward terms. Counts: ``diverged`` rows, and steps whose contacts or constraints did not fit.
        """
        counters = self.env.simulator.read_counters()
        overflows = torch.tensor(counters[1:], dtype=torch.float64, device=self.env.device)
        statistics = self._statistics.read(total)
        statistics["contact_overflows"], statistics["constraint_overflows"] = total(overflows).tolist()
        return statistics

    def change_residents(self) -> None:
        """Choose anew which clips of a limited library lie on the device. Episodes whose clip is gone end uncounted, and others begin."""
        self.sampler.change_residents()
        self._statistics.start(self.env.restart_absent())
        if self._has_numpy_buffers:
            self._publish()

    def snapshot(self) -> Dict[str, Any]:
        """All that ``restore`` needs to go on exactly, but for the sampler, which has a state of its own."""
        statistics = {name: tensor.clone() for name, tensor in self._statistics.state().items()}
        return {"env": self.env.snapshot(), "statistics": statistics, "ticks": self._ticks}

    def fits(self, snapshot: Dict[str, Any]) -> bool:
        """Whether ``snapshot`` is of as many rows, so that ``restore`` may take it."""
        return self.env.fits(snapshot["env"])

    def restore(self, snapshot: Dict[str, Any]) -> None:
        """Go back to a ``snapshot``."""
        self.env.restore(snapshot["env"])
        for name, tensor in self._statistics.state().items():
            tensor.copy_(snapshot["statistics"][name])
        self._ticks = snapshot["ticks"]
        if self._has_numpy_buffers:
            self._publish()

    def compile(self) -> None:
        """Fuse the parts of a step with ``torch.compile``; worth its minute on a GPU, and needs a C++ compiler on a CPU."""
        self.env.compile()
        self._statistics.compile()

    def close(self) -> None:
        """Free what the simulator holds."""
        self.env.close()
