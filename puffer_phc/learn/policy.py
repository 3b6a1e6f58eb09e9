"""The policy of PHC: two six-layer SiLU networks over one observation normaliser, and a diagonal Gaussian."""

import math
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import torch
from pufferlib.pytorch import layer_init
from torch import Tensor, nn
from torch.distributions import Normal

from puffer_phc.learn.running_norm import RunningNorm

SOFT_BOUND = 0.9
"""Mean actions beyond ± this are pulled back by the bound loss; the environment clips actions at ±1."""


class Features(NamedTuple):
    """What the two networks hand to their heads."""

    actor: Tensor
    """(N, H)."""
    critic: Tensor
    """(N, H)."""


def trunk(input_size: int, layer_sizes: Sequence[int], hidden_size: int) -> nn.Sequential:
    """Linear and SiLU layers ending in a LayerNorm before the last SiLU.

    Orthogonal weights of gain √2, zero biases.
    """
    layers = []
    for size in layer_sizes:
        layers += [layer_init(nn.Linear(input_size, size)), nn.SiLU()]
        input_size = size
    layers += [layer_init(nn.Linear(input_size, hidden_size)), nn.LayerNorm(hidden_size), nn.SiLU()]
    return nn.Sequential(*layers)


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-density (N,) of ``action`` (N, A) under the diagonal Gaussian of ``mean`` (N, A) and ``log_std`` (A,)."""
    z = (action - mean) * torch.exp(-log_std)
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Entropy () in nats of the diagonal Gaussian of ``log_std`` (A,)."""
    return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum()


def bound_loss(mean: Tensor) -> Tensor:
    """() mean over batch and dimensions of the squared excess of ``mean`` (N, A) over ``SOFT_BOUND``."""
    return (mean.abs() - SOFT_BOUND).clamp_min(0.0).square().mean()


class PHCPolicy(nn.Module):
    """Separate actor and critic with PufferLib's method names.

    ``layer_sizes`` and ``hidden_size`` give the networks' widths; 934 observations, 69 actions and the default widths make 16,984,134
    trainable parameters. The exploration noise exp(log_std) (A,) is fixed unless ``learn_std``. Heads run in float32 under autocast,
    because with a small noise a rounding error of the mean is a large error of the log-density.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        layer_sizes: Sequence[int] = (2048, 1536, 1024, 1024, 512),
        hidden_size: int = 512,
        init_log_std: float = -2.9,
        learn_std: bool = False,
    ) -> None:
        super().__init__()
        self.observation_size = observation_size
        self.action_size = action_size
        self.obs_norm = RunningNorm(observation_size)
        self.actor = trunk(observation_size, layer_sizes, hidden_size)
        self.mean_head = layer_init(nn.Linear(hidden_size, action_size), std=0.01)
        self.critic = trunk(observation_size, layer_sizes, hidden_size)
        self.value_head = layer_init(nn.Linear(hidden_size, 1), std=0.01)
        self.log_std = nn.Parameter(torch.full((action_size,), float(init_log_std)), requires_grad=learn_std)

    def encode_observations(self, observations: Tensor, state: Optional[Any] = None) -> Features:
        """Hidden features of both networks for raw observations (N, O). ``state`` is PufferLib's and unused here."""
        x = self.obs_norm(observations)
        return Features(self.actor(x), self.critic(x))

    def decode_actions(self, hidden: Features) -> Tuple[Normal, Tensor]:
        """The action distribution over (N, A) and the values (N, 1)."""
        mean = self._mean(hidden.actor)
        return Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False), self._value(hidden.critic)

    def forward(self, observations: Tensor, state: Optional[Any] = None) -> Tuple[Normal, Tensor]:
        """The action distribution over (N, A) and the values (N, 1) for raw observations (N, O)."""
        return self.decode_actions(self.encode_observations(observations, state))

    forward_eval = forward

    def mean_and_value(self, observations: Tensor) -> Tuple[Tensor, Tensor]:
        """Mean actions (N, A) and values (N,) for raw observations (N, O)."""
        hidden = self.encode_observations(observations)
        return self._mean(hidden.actor), self._value(hidden.critic).squeeze(-1)

    def mean_action(self, observations: Tensor) -> Tensor:
        """The deterministic actions (N, A) for raw observations (N, O)."""
        return self._mean(self.actor(self.obs_norm(observations)))

    def value(self, observations: Tensor) -> Tensor:
        """Values (N,) for raw observations (N, O)."""
        return self._value(self.critic(self.obs_norm(observations))).squeeze(-1)

    def _mean(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.mean_head(hidden.float())

    def _value(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.float())
