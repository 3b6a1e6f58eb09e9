"""Random draws that belong to an environment, not to the process that simulates it."""

from typing import Optional

import torch
from torch import Tensor


class EnvRandom:
    """Random numbers keyed by the global environment id.

    Every process draws for the environments of all processes from an equal generator and keeps its own rows, so that environment 17 sees
    the same numbers whether one process or eight divide the work. Drawing a few million unused numbers costs microseconds on a GPU.

    ``num_envs`` rows starting at ``first_env`` out of ``total_envs`` (default: just these rows) are kept. ``generator`` is public so that
    its state can be saved and CUDA graphs can register it.
    """

    def __init__(self, seed: int, num_envs: int, device: torch.device, first_env: int = 0, total_envs: Optional[int] = None) -> None:
        self.num_envs = num_envs
        self.first_env = first_env
        self.total_envs = num_envs if total_envs is None else total_envs
        self.device = device
        self.generator = torch.Generator(device=device)
        self.generator.manual_seed(seed)

    def _own_rows(self, drawn: Tensor) -> Tensor:
        return drawn[self.first_env : self.first_env + self.num_envs]

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) uniform in [0, 1)."""
        return self._own_rows(torch.rand(self.total_envs, *shape, generator=self.generator, device=self.device))

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) standard normal."""
        return self._own_rows(torch.randn(self.total_envs, *shape, generator=self.generator, device=self.device))

    def shared(self, *shape: int) -> Tensor:
        """``shape`` uniform in [0, 1), of no environment: the same numbers in every process."""
        return torch.rand(*shape, generator=self.generator, device=self.device)
