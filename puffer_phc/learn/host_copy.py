"""Copies of a training's state in the host's memory, which a device writes beside its other work."""

from collections import defaultdict
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import torch
from torch import Tensor

from puffer_phc.learn.resume import with_tensors


class HostCopy(NamedTuple):
    """A state that nothing changes any more but a later copy into the same memory."""

    state: Any
    has_arrived: Tensor
    """() bool on the host, which becomes true when all of it is there."""


class _Memory(NamedTuple):
    """Room for one copy on the host, of bytes; where it comes from a GPU it is locked."""

    room: Tensor
    mark: Tensor


class HostCopier:
    """Copies states of one ``device`` to the host without waiting, into two memories in turn: the copy before the last one is lost.

    What lies on the device is gathered there, one launch for each type of number, and crosses in one piece on a stream of its own: a state
    has hundreds of tensors, and the device would wait for the host to ask for each. Memory is asked of the driver only where a state is
    larger than those before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._true = torch.ones((), dtype=torch.bool, device=device)
        self._gathered = torch.empty(0, dtype=torch.uint8, device=device)
        self._memories = [self._memory(0), self._memory(0)]

    def copy(self, state: Any) -> HostCopy:
        """``state`` (dictionaries, lists, tensors, plain values) as it is when the device gets there."""
        if self._stream is not None:
            self._stream.synchronize()
        groups = self._groups(state)
        size = sum(_num_bytes(group) for group in groups)
        memory = self._room_for(size)
        memory.mark.zero_()
        self._fill(memory, groups, size)
        self._memories.reverse()
        return HostCopy(self._found(state, memory.room, groups), memory.mark)

    def _groups(self, state: Any) -> List[List[Tensor]]:
        """The tensors of the device by type, the widest first, so that all lie at multiples of their width."""
        groups: Dict[torch.dtype, List[Tensor]] = defaultdict(list)

        def note(tensor: Tensor) -> Tensor:
            if self._is_here(tensor):
                groups[tensor.dtype].append(tensor.detach())
            return tensor

        with_tensors(state, note)
        return sorted(groups.values(), key=lambda group: -group[0].element_size())

    def _is_here(self, tensor: Tensor) -> bool:
        return tensor.device.type == self._device.type

    def _room_for(self, size: int) -> _Memory:
        """The memory whose turn it is, enlarged where it has to be."""
        if len(self._memories[0].room) < size:
            self._memories[0] = self._memory(size)
        if self._stream is not None and len(self._gathered) < size:
            self._gathered = torch.empty(size, dtype=torch.uint8, device=self._device)
        return self._memories[0]

    def _memory(self, size: int) -> _Memory:
        is_locked = self._device.type == "cuda"
        return _Memory(torch.empty(size, dtype=torch.uint8, pin_memory=is_locked), torch.ones((), dtype=torch.bool, pin_memory=is_locked))

    def _fill(self, memory: _Memory, groups: List[List[Tensor]], size: int) -> None:
        gathered = memory.room if self._stream is None else self._gathered
        for group, region in _regions(gathered, groups):
            torch.cat([tensor.reshape(-1) for tensor in group], out=region)
        if self._stream is None:
            memory.mark.copy_(self._true)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            memory.room[:size].copy_(gathered[:size], non_blocking=True)
            memory.mark.copy_(self._true, non_blocking=True)

    def _found(self, state: Any, room: Tensor, groups: List[List[Tensor]]) -> Any:
        """``state`` with its tensors in ``room``; those that were on the host anyway are copied."""
        parts = {group[0].dtype: iter(region.split([tensor.numel() for tensor in group])) for group, region in _regions(room, groups)}
        return with_tensors(state, lambda tensor: next(parts[tensor.dtype]).view(tensor.shape) if self._is_here(tensor) else tensor.clone())


def _num_bytes(group: List[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in group)


def _regions(room: Tensor, groups: List[List[Tensor]]) -> Iterator[Tuple[List[Tensor], Tensor]]:
    """Each group and the part of ``room`` (bytes) that is its own, as numbers of its type."""
    start = 0
    for group in groups:
        end = start + _num_bytes(group)
        yield group, room[start:end].view(group[0].dtype)
        start = end
