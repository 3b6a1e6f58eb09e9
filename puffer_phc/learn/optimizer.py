"""Adam over one flat gradient buffer: one all-reduce, one norm, one fused step."""

import copy
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor, nn

from puffer_phc.learn.distributed import World


class FlatAdam:
    """Fused Adam whose gradients are views of one buffer (P,), shared between processes in one reduction.

    ``rate`` () lives on the device, so that a schedule or a KL controller changes it without waiting.
    """

    def __init__(self, module: nn.Module, eps: float, max_grad_norm: float, world: World) -> None:
        self._parameters: List[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
        self._world = world
        self._max_grad_norm = max_grad_norm
        first = self._parameters[0]
        self.gradient = torch.zeros(sum(p.numel() for p in self._parameters), device=first.device)
        self.rate = torch.zeros((), device=first.device)
        self._adam = torch.optim.Adam(self._parameters, lr=self.rate, eps=eps, fused=True)
        self._bind_gradients()

    def _bind_gradients(self) -> None:
        offset = 0
        for parameter in self._parameters:
            parameter.grad = self.gradient[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()

    def backward(self, loss: Tensor) -> None:
        """Replace the gradient by that of ``loss`` ()."""
        self.gradient.zero_()
        loss.backward()

    def step(self) -> Tensor:
        """Average the gradient over processes, scale it down to the norm limit, and step. Returns the norm () before scaling.

        Where the norm is not finite nothing changes, Adam's averages and its count of steps included.
        """
        self._world.mean_(self.gradient)
        norm = self.gradient.norm()
        self._adam.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]  # what torch.amp.GradScaler sets
        self.gradient.mul_((self._max_grad_norm / (norm + 1e-6)).clamp_max(1.0))
        self._adam.step()
        return norm

    def state_dict(self) -> Dict[str, Any]:
        """The state of Adam and the rate."""
        return {"adam": self._adam.state_dict()["state"], "rate": self.rate.item()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from ``state_dict``. Raises ValueError for one of other parameters."""
        sizes = [tuple(p.shape) for p in self._parameters]
        found = [tuple(moments["exp_avg"].shape) for _, moments in sorted(state["adam"].items())]
        if found and found != sizes:
            raise ValueError("the optimiser's state is of other parameters")
        whole = self._adam.state_dict()
        whole["state"] = copy.deepcopy(state["adam"])
        rate = self.rate
        self._adam.load_state_dict(whole)
        self.rate = rate.fill_(state["rate"])
        self._adam.param_groups[0]["lr"] = self.rate


def sound_means(records: Tensor) -> Tuple[Tensor, Tensor]:
    """Means (K,) over those rows of ``records`` (M, K) whose last column, the norm of a gradient, is finite; and how many are not, ()."""
    is_sound = records[:, -1:].isfinite()
    means = torch.where(is_sound, records, torch.zeros_like(records)).sum(0) / is_sound.sum()
    return means, (~is_sound).sum().float()


def all_tensors(module: nn.Module) -> List[Tensor]:
    """Parameters and buffers of ``module``, always in the same order, to be written in place."""
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


def all_finite(module: nn.Module) -> bool:
    """Whether all parameters of ``module`` are finite. Waits for the device."""
    return is_finite(dict(module.named_parameters()))


def is_finite(state: Any) -> bool:
    """Whether all tensors in ``state`` (dictionaries of them and of plain values) are finite. Waits for the device that they are on."""
    if isinstance(state, dict):
        return all(map(is_finite, state.values()))
    return not isinstance(state, Tensor) or bool(state.isfinite().all())
