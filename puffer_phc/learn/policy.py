"""The policies of PHC: actor and critic over one observation normaliser, a diagonal Gaussian, and an LSTM in one of them or in none."""

import math
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Type

import torch
from pufferlib.pytorch import layer_init
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional

from puffer_phc.learn.recurrent import Recurrent, memory_of, put_memory
from puffer_phc.learn.running_norm import RunningNorm

SOFT_BOUND = 0.9
"""Mean actions beyond ± this are pulled back by the bound loss; the environment clips actions at ±1."""


ALIGNMENT = 8
"""Tensor cores read rows of 16 bytes: products over a number of columns that is no multiple of this are half as fast in bf16."""


class Features(NamedTuple):
    """What the two networks hand to their heads; leading axes are free."""

    actor: Tensor
    """(..., H)."""
    critic: Tensor
    """(..., H)."""


class Unrolled(NamedTuple):
    """What a policy makes of T steps of S sequences."""

    mean: Tensor
    """(T, S, A) mean actions."""
    value: Tensor
    """(T, S)."""
    memory: Tensor
    """(S, W) after the last step."""


class AlignedLinear(nn.Linear):
    """A linear layer that works on inputs and weights padded with zeros to whole ``ALIGNMENT`` columns; otherwise as its base."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., out_features) for ``x`` (..., in_features)."""
        padding = (0, -self.in_features % ALIGNMENT)
        return functional.linear(functional.pad(x, padding), functional.pad(self.weight, padding), self.bias)


def trunk(input_size: int, layer_sizes: Sequence[int], activation: Type[nn.Module] = nn.SiLU, has_layer_norm: bool = True) -> nn.Sequential:
    """Linear layers of ``layer_sizes``, each with the activation, the last of them with a LayerNorm before it if asked for.

    Orthogonal weights of gain √2, zero biases.
    """
    layers = []
    for size in layer_sizes:
        linear = AlignedLinear if input_size % ALIGNMENT else nn.Linear
        layers += [layer_init(linear(input_size, size)), activation()]
        input_size = size
    if has_layer_norm:
        layers.insert(-1, nn.LayerNorm(input_size))
    return nn.Sequential(*layers)


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-density (...,) of ``action`` (..., A) under the diagonal Gaussian of ``mean`` (..., A) and ``log_std`` (A,)."""
    z = (action - mean) * torch.exp(-log_std)
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Entropy () in nats of the diagonal Gaussian of ``log_std`` (A,)."""
    return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum()


def bound_loss(mean: Tensor) -> Tensor:
    """() mean over batch and dimensions of the squared excess of ``mean`` (..., A) over ``SOFT_BOUND``."""
    return (mean.abs() - SOFT_BOUND).clamp_min(0.0).square().mean()


class PHCPolicy(nn.Module):
    """Separate actor and critic without memory, with PufferLib's method names.

    ``layer_sizes`` and ``hidden_size`` give the widths of the actor, ``critic_layer_sizes`` those of the critic (default: the same); 934
    observations, 69 actions and the default widths make 16,984,134 trainable parameters. ``recurrent_size`` is that of the LSTM of the
    classes below. The exploration noise exp(log_std) (A,) is fixed unless ``learn_std``. Heads run in float32 under autocast, because with
    a small noise a rounding error of the mean is a large error of the log-density.

    Every policy is used the same way: ``unroll`` works on sequences, for training, ``act``, ``mean_action`` and ``value`` on single steps,
    and what a row remembers is (W,) numbers that the caller keeps. Without an LSTM, W is zero.
    """

    recurrent_part: Optional[str] = None
    """Which of actor and critic has an LSTM before its head."""
    critic_activation: Type[nn.Module] = nn.SiLU
    has_layer_norm = True

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        layer_sizes: Sequence[int] = (2048, 1536, 1024, 1024, 512),
        hidden_size: int = 512,
        critic_layer_sizes: Optional[Sequence[int]] = None,
        recurrent_size: int = 512,
        init_log_std: float = -2.9,
        learn_std: bool = False,
    ) -> None:
        super().__init__()
        self.observation_size = observation_size
        self.action_size = action_size
        actor_sizes = (*layer_sizes, hidden_size)
        critic_sizes = actor_sizes if critic_layer_sizes is None else tuple(critic_layer_sizes)
        self.obs_norm = RunningNorm(observation_size)
        self.actor = trunk(observation_size, actor_sizes, has_layer_norm=self.has_layer_norm)
        self.actor_lstm = Recurrent(hidden_size, recurrent_size, nn.SiLU()) if self.recurrent_part == "actor" else None
        actor_width = hidden_size if self.actor_lstm is None else recurrent_size
        self.mean_head = layer_init(nn.Linear(actor_width, action_size), std=0.01)
        self.critic = trunk(observation_size, critic_sizes, self.critic_activation, self.has_layer_norm)
        self.critic_lstm = Recurrent(critic_sizes[-1], recurrent_size, nn.ReLU()) if self.recurrent_part == "critic" else None
        critic_width = critic_sizes[-1] if self.critic_lstm is None else recurrent_size
        self.value_head = layer_init(nn.Linear(critic_width, 1), std=0.01)
        self.log_std = nn.Parameter(torch.full((action_size,), float(init_log_std)), requires_grad=learn_std)
        self.memory_size = sum(lstm.memory_size for lstm in (self.actor_lstm, self.critic_lstm) if lstm is not None)

    def no_memory(self, num_rows: int) -> Tensor:
        """What ``num_rows`` rows remember before their first step: zeros (N, W)."""
        return torch.zeros(num_rows, self.memory_size, device=self.log_std.device)

    def unroll(self, observations: Tensor, memory: Tensor, starts: Optional[Tensor] = None) -> Unrolled:
        """Mean actions and values along sequences of raw observations (T, S, O), from ``memory`` (S, W).

        Where ``starts`` (T, S) bool is true an episode begins with that step, which then sees nothing of what was before.
        """
        actor, critic = self.encode_observations(observations)
        actor, memory = _through(self.actor_lstm, actor, memory, starts)
        critic, memory = _through(self.critic_lstm, critic, memory, starts)
        return Unrolled(self._mean(actor), self._value(critic).squeeze(-1), memory)

    def act(self, observations: Tensor, memory: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Mean actions (N, A), values (N,) and the next memory (N, W) for raw observations (N, O): ``unroll`` over one step."""
        mean, value, memory = self.unroll(observations.unsqueeze(0), memory)
        return mean.squeeze(0), value.squeeze(0), memory

    def mean_action(self, observations: Tensor, memory: Tensor) -> Tuple[Tensor, Tensor]:
        """The deterministic actions (N, A) and the next memory (N, W) for raw observations (N, O); a critic's memory stands still."""
        hidden = self.actor(self.obs_norm(observations)).unsqueeze(0)
        hidden, memory = _through(self.actor_lstm, hidden, memory, None)
        return self._mean(hidden.squeeze(0)), memory

    def value(self, observations: Tensor, memory: Tensor) -> Tensor:
        """Values (N,) for raw observations (N, O) and what is remembered (N, W) of the steps before."""
        hidden = self.critic(self.obs_norm(observations)).unsqueeze(0)
        hidden, _ = _through(self.critic_lstm, hidden, memory, None)
        return self._value(hidden).squeeze(0).squeeze(-1)

    def encode_observations(self, observations: Tensor, state: Optional[Dict[str, Any]] = None) -> Features:
        """Features of both networks before an LSTM, for raw observations (..., O). ``state`` is PufferLib's and unused here."""
        x = self.obs_norm(observations)
        return Features(self.actor(x), self.critic(x))

    def decode_actions(self, hidden: Features) -> Tuple[Normal, Tensor]:
        """The action distribution over (..., A) and the values (..., 1) for features after an LSTM."""
        return self._distribution(self._mean(hidden.actor)), self._value(hidden.critic)

    def forward_eval(self, observations: Tensor, state: Optional[Dict[str, Any]] = None) -> Tuple[Normal, Tensor]:
        """One step as PufferLib's trainers call it: the action distribution over (N, A) and the values (N, 1) for raw observations (N, O).

        What is remembered is read from ``lstm_h`` and ``lstm_c`` (N, H) of ``state`` and written back there; None stands for no past.
        """
        mean, value, memory = self.act(observations, memory_of(state, observations, self.memory_size))
        put_memory(state, memory)
        return self._distribution(mean), value.unsqueeze(-1)

    def forward(self, observations: Tensor, state: Optional[Dict[str, Any]] = None) -> Tuple[Normal, Tensor]:
        """As ``forward_eval``, or along sequences (N, T, O): the distribution over (N · T, A), as PufferLib has it, and values (N, T)."""
        if observations.ndim == 2:
            return self.forward_eval(observations, state)
        mean, value, memory = self.unroll(observations.transpose(0, 1), memory_of(state, observations, self.memory_size))
        put_memory(state, memory.detach())
        return self._distribution(mean.transpose(0, 1).flatten(0, 1)), value.transpose(0, 1)

    def _distribution(self, mean: Tensor) -> Normal:
        return Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False)

    def _mean(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.mean_head(hidden.float())

    def _value(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.float())


class LSTMActorPolicy(PHCPolicy):
    """An actor with an LSTM between its layers and its head, and a critic of ReLU layers without one; no LayerNorm.

    The original's: layers 2048 2048 1024 and 512, critic 1024 1024 512 256 and recurrent size 512 make 13,534,278 parameters.
    """

    recurrent_part = "actor"
    critic_activation = nn.ReLU
    has_layer_norm = False


class LSTMCriticPolicy(PHCPolicy):
    """A critic with an LSTM between its ReLU layers and its head, and an actor without one; no LayerNorm.

    The original's: layers 2048 1536 1024 1024 512 and 512, critic 2048 1024 1024 512 and recurrent size 512 make 16,197,702 parameters.
    """

    recurrent_part = "critic"
    critic_activation = nn.ReLU
    has_layer_norm = False


def _through(lstm: Optional[Recurrent], features: Tensor, memory: Tensor, starts: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
    """Features (T, S, ·) behind ``lstm`` and the memory (S, W) after them; both as they are where there is no LSTM."""
    return (features, memory) if lstm is None else lstm(features, memory, starts)
