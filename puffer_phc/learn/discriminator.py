"""The network that tells simulated motion from real motion, its losses and the reward of deceiving it: functions of tensors.

Adversarial motion priors (Peng et al. 2021, arXiv 2104.02180) with the cross-entropy and the regularisation of PHC (arXiv 2305.06456).
Shape letters: S numbers that are seen of one row, M rows.
"""

import math
from typing import NamedTuple, Sequence, Tuple

import torch
from pufferlib.pytorch import layer_init
from torch import Tensor, nn
from torch.nn import functional

from puffer_phc.config import DiscriminatorConfig, chosen
from puffer_phc.learn.running_norm import RunningNorm, RunningScale

_LEAST_DOUBT = 1e-4
"""The probability of being simulated counts as no less than this in the reward, which is thereby bounded."""


class Discriminator(nn.Module):
    """ReLU layers and one logit over a normaliser of its own: positive where motion looks real. Results are float32 under autocast.

    With ``is_difference`` zeros are what is real, and the normaliser leaves them where they are. 1960 columns and layers 1024 512 make
    2,533,377 parameters, as in the original.
    """

    def __init__(self, size: int, layer_sizes: Sequence[int], is_difference: bool) -> None:
        super().__init__()
        self.norm = (RunningScale if is_difference else RunningNorm)(size)
        sizes = [size, *layer_sizes]
        self.layers = nn.ModuleList(layer_init(nn.Linear(width, after)) for width, after in zip(sizes, sizes[1:]))
        self.logit = layer_init(nn.Linear(sizes[-1], 1))

    def forward(self, seen: Tensor) -> Tensor:
        """Logits (...,) of what was seen (..., S)."""
        hidden = self.norm(seen)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return self.logit(hidden).squeeze(-1).float()

    def with_gradient(self, seen: Tensor) -> Tuple[Tensor, Tensor]:
        """Logits (M,) of what was seen (M, S), and their gradient (M, S) with respect to the normalised columns.

        The gradient is written out, layer by layer: with ReLUs it is a product of weights and masks, which one more backward pass
        differentiates. Asking autograd for it would take a backward pass through a backward pass, which ``torch.compile`` refuses.
        """
        hidden, masks = self.norm(seen), []
        for layer in self.layers:
            hidden = layer(hidden).relu()
            masks.append(hidden > 0)
        gradient = self.logit.weight.expand(len(seen), -1)
        for layer, mask in zip(reversed(self.layers), reversed(masks)):
            gradient = (gradient * mask) @ layer.weight
        return self.logit(hidden).squeeze(-1).float(), gradient.float()

    def squared_weights(self) -> Tuple[Tensor, Tensor]:
        """Sums () of the squares of the last layer's weights and of all, biases aside."""
        squares = [parameter.square().sum() for parameter in self.parameters() if parameter.ndim == 2]
        return squares[-1], torch.stack(squares).sum()


class DiscriminatorLosses(NamedTuple):
    """Scalars of one minibatch; ``total`` carries the gradient."""

    total: Tensor
    prediction: Tensor
    """Mean cross-entropy of the two kinds."""
    penalty: Tensor
    """Mean squared norm of the logit's gradient."""
    agent_accuracy: Tensor
    """Share of simulated rows that were recognised."""
    demo_accuracy: Tensor
    """Share of real rows that were recognised."""


def discriminator_losses(
    discriminator: Discriminator, agent: Tensor, demonstrations: Tensor, is_difference: bool, options: DiscriminatorConfig
) -> DiscriminatorLosses:
    """Losses of telling ``agent`` (M, S) from ``demonstrations`` (M', S), each kind with half of the weight.

    The gradient penalty (Mescheder et al. 2018, arXiv 1801.04406) is on demonstrations; with ``is_difference`` it is on the agent's rows,
    because zero is the one demonstration: a step from it down to them is what has to be flattened (Zhang et al. 2025, arXiv 2505.04961).
    """
    if is_difference:
        demo_logits, (agent_logits, slopes) = discriminator(demonstrations), discriminator.with_gradient(agent)
    else:
        agent_logits, (demo_logits, slopes) = discriminator(agent), discriminator.with_gradient(demonstrations)
    penalty = slopes.square().sum(-1).mean()
    prediction = 0.5 * (functional.softplus(agent_logits).mean() + functional.softplus(-demo_logits).mean())
    of_logit, of_all = discriminator.squared_weights()
    total = prediction + chosen(options.grad_penalty) * penalty + options.logit_reg * of_logit + options.weight_decay * of_all
    return DiscriminatorLosses(
        total=total,
        prediction=prediction.detach(),
        penalty=penalty.detach(),
        agent_accuracy=(agent_logits < 0).float().mean(),
        demo_accuracy=(demo_logits > 0).float().mean(),
    )


def style_reward(logits: Tensor) -> Tensor:
    """−ln(1 − D), where D is the probability of being real that ``logits`` (...,) stand for; between 0 and 9.2."""
    return functional.softplus(logits).clamp_max(-math.log(_LEAST_DOUBT))
