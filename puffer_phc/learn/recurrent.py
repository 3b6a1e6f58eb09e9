"""An LSTM that forgets where an episode begins, over one step or a whole sequence by the same arithmetic.

Shape letters: T time steps, S sequences side by side, I inputs, H width of the hidden state. The memory of a sequence is one row (2H): the
hidden state, then the cell state; zeros stand for no past. PufferLib's dictionaries with ``lstm_h`` and ``lstm_c`` are converted here.
"""

from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """One LSTM layer and the activation after it; weight matrices orthogonal, biases zero.

    The cell is unrolled step by step: a library's fused LSTM could not drop the past in the middle of a sequence without cutting it at
    places that only the device knows. What is wide is still done at once for all steps, the product with the inputs; what is left in each
    step, S × H by H × 4H and a mask, has fixed shapes and addresses, so that it compiles, and records into a CUDA graph.
    """

    def __init__(self, input_size: int, hidden_size: int, activation: nn.Module) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)
        self.activation = activation
        self.memory_size = 2 * hidden_size
        for weight in (self.cell.weight_ih, self.cell.weight_hh):
            nn.init.orthogonal_(weight)
        for bias in (self.cell.bias_ih, self.cell.bias_hh):
            nn.init.zeros_(bias)

    def forward(self, inputs: Tensor, memory: Tensor, starts: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """Outputs (T, S, H) for ``inputs`` (T, S, I) from ``memory`` (S, 2H), and the memory after the last step.

        Where ``starts`` (T, S) bool is true an episode begins with that step, and the step sees no past.
        """
        projected = functional.linear(inputs, self.cell.weight_ih, self.cell.bias_ih + self.cell.bias_hh)
        outputs = []
        for step, from_input in enumerate(projected.unbind(0)):
            if starts is not None:
                memory = forgotten(memory, starts[step])
            memory = self._advanced(from_input, memory)
            outputs.append(memory[:, : self.memory_size // 2])
        return self.activation(torch.stack(outputs)), memory

    def _advanced(self, from_input: Tensor, memory: Tensor) -> Tensor:
        """The memory (S, 2H) after a step; ``from_input`` (S, 4H) is the input's share in the gates."""
        hidden, cell = memory.chunk(2, dim=-1)
        gates = from_input.float() + functional.linear(hidden, self.cell.weight_hh).float()
        admit, keep, candidate, show = gates.chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + admit.sigmoid() * candidate.tanh()
        return torch.cat((show.sigmoid() * cell.tanh(), cell), dim=-1)


def forgotten(memory: Tensor, starts: Tensor) -> Tensor:
    """``memory`` (S, W) with zeros in the rows where ``starts`` (S,) bool is true; what is no number goes, too, and no gradient passes."""
    return memory.masked_fill(starts.unsqueeze(-1), 0.0)


def memory_of(state: Optional[Dict[str, Any]], like: Tensor, memory_size: int) -> Tensor:
    """The memory (N, W) in a PufferLib ``state``, zeros where it has none; device and number of rows are those of ``like`` (N, ...)."""
    if state is None or state.get("lstm_h") is None:
        return torch.zeros(len(like), memory_size, device=like.device)
    hidden, cell = (state[name].reshape(len(like), memory_size // 2) for name in ("lstm_h", "lstm_c"))
    return torch.cat((hidden, cell), dim=-1)


def put_memory(state: Optional[Dict[str, Any]], memory: Tensor) -> None:
    """Write ``memory`` (N, W) into a PufferLib ``state``; a policy without memory leaves it as it is."""
    if state is not None and memory.shape[-1] > 0:
        state["lstm_h"], state["lstm_c"] = memory.chunk(2, dim=-1)
        state["hidden"] = state["lstm_h"]
