"""Checkpoints: plain tensors and numbers in one file that is always whole, is checked before it is used, and never runs code."""

import contextlib
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, NamedTuple, Optional, Union

import torch

import puffer_phc
from puffer_phc.errors import CheckpointError
from puffer_phc.files import is_there, whole_file
from puffer_phc.learn.quantization import Quantized, dequantize, quantize

FORMAT = 2
"""1, of early versions, held the state of one process; its weights still load."""

QUANTIZED_FORMAT = 3
"""As 2, with the matrices among the weights in eight bits."""

CRITIC_PREFIXES = ("critic.", "critic_lstm.", "value_head.")
"""Names of the weights that only training needs."""

CARRIED = ("iteration", "global_step", "rate_factor")
"""What a compact checkpoint keeps of ``Checkpoint.trainer``, beside the samplers."""

_GLOBALS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
_GLOBALS |= {f"torch {kind}Storage" for kind in ("Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double")}
"""All that the pickle in a checkpoint may name. Torch's own list has more, and some of it allocates as much as a file asks for."""

_MAX_DEPTH = 32


class Checkpoint(NamedTuple):
    """What a checkpoint holds; ``trainer`` is absent in weights-only files."""

    config: Dict[str, Dict[str, Any]]
    """Sections of options of the run, names to plain values."""
    policy: Dict[str, torch.Tensor]
    """State of the policy network, its observation normaliser included."""
    observation_size: int
    action_size: int
    trainer: Optional[Dict[str, Any]]
    """Optimiser, schedules, counters, and the first process's sampler, random generators and environments (``run_folder``)."""
    origin: Optional[Dict[str, str]] = None
    """Versions and commit of the program that wrote it, where they are known."""


def save_checkpoint(path: Union[str, Path], checkpoint: Checkpoint, eight_bits: bool = False) -> None:
    """Write ``checkpoint`` to a temporary neighbour, force it to disk, and rename it to ``path``.

    With ``eight_bits`` the matrices among the weights are rounded (``quantization.quantize``).
    Raises ``CheckpointError`` when the folder cannot be written or the disk is full; an older file at ``path`` then stays whole.
    """
    content = {"format": FORMAT, "version": puffer_phc.__version__, **checkpoint._asdict()}
    if eight_bits:
        weights, scales = quantize(checkpoint.policy)
        content.update(format=QUANTIZED_FORMAT, policy=weights, scales=scales)
    write_plain(Path(path), content)


def write_plain(path: Path, content: Dict[str, Any]) -> None:
    """Write ``content``, what ``read_plain`` admits, as ``save_checkpoint`` does."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """What goes wrong in the block, which writes ``path``, is a CheckpointError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error  # torch's writer hides what it met
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise CheckpointError(f"checkpoint '{path}' cannot be written: {reason}") from error


def load_checkpoint(path: Union[str, Path]) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises ``CheckpointError`` naming the file and what is wrong with it."""
    path = Path(path)
    if not is_there(path):
        raise CheckpointError(f"checkpoint '{path}' does not exist")
    if not path.is_file():
        raise CheckpointError(f"checkpoint '{path}' is not a file{'; the newest of a run is latest.pt in it' if path.is_dir() else ''}")
    return _from_content(path, read_plain(path))


def read_plain(path: Path) -> Any:
    """Dictionaries and lists of tensors (on the CPU), numbers and texts, their checksums compared.

    Raises CheckpointError where the file is damaged or holds anything else.
    """
    try:
        with path.open("rb") as file:
            _check_archive(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        _check_plain(content)
    except Exception as error:
        reason = str(error).splitlines()[0] if isinstance(error, _DamagedError) else type(error).__name__
        raise CheckpointError(f"checkpoint '{path}' is damaged or not a checkpoint of this project ({reason})") from error
    return content


class _DamagedError(Exception):
    """What a check of ours found."""


def _check_archive(file: BinaryIO) -> None:
    """Compare every record with its checksum, which torch does not, and let nothing in that a checkpoint of ours would not have.

    Sizes are bounded by the file's: nothing in it is packed.
    """
    file_size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(entry.file_size for entry in entries) > file_size:
            raise _DamagedError("its records are not stored as they are")
        damaged = archive.testzip()
        if damaged is not None:
            raise _DamagedError(f"the checksum of '{damaged}' is wrong")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                _check_pickle(archive.read(entry))
    file.seek(0)


def _check_pickle(pickled: bytes) -> None:
    """Refuse names that checkpoints do not need."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "STACK_GLOBAL" or opcode.name.startswith(("EXT", "INST")):
            raise _DamagedError("it names code")
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise _DamagedError(f"it names {str(argument)[:80]!r}")


def _check_plain(content: Any, depth: int = 0) -> None:
    """Refuse what is not a tensor with memory of its own, a number, a text, or a dictionary or list of such."""
    if depth > _MAX_DEPTH:
        raise _DamagedError("it is nested too deeply")
    if isinstance(content, torch.Tensor):
        if content.numel() * content.element_size() > content.untyped_storage().nbytes():
            raise _DamagedError("a tensor is larger than its memory")
    elif isinstance(content, dict):
        for name, value in content.items():
            _check_plain(name, depth + 1)
            _check_plain(value, depth + 1)
    elif isinstance(content, (list, tuple)):
        for value in content:
            _check_plain(value, depth + 1)
    elif content is not None and not isinstance(content, (bool, int, float, str)):
        raise _DamagedError(f"it holds a {type(content).__name__}")


def _from_content(path: Path, content: Any) -> Checkpoint:
    if not isinstance(content, dict) or content.get("format") not in (1, FORMAT, QUANTIZED_FORMAT):
        raise CheckpointError(f"checkpoint '{path}' is not a checkpoint of format {FORMAT}")
    if content["format"] == 1:
        content = {**content, "trainer": None, "origin": None}
    missing = [name for name in Checkpoint._fields if name not in content]
    if missing:
        raise CheckpointError(f"checkpoint '{path}' lacks {', '.join(missing)}")
    checkpoint = Checkpoint(*(content[name] for name in Checkpoint._fields))
    if not _is_well_formed(checkpoint):
        raise CheckpointError(f"checkpoint '{path}' is damaged or not a checkpoint of this project (its parts are of other kinds)")
    return checkpoint if content["format"] != QUANTIZED_FORMAT else _dequantized(path, checkpoint, content.get("scales"))


def _dequantized(path: Path, checkpoint: Checkpoint, scales: Any) -> Checkpoint:
    try:
        if not _are_tensors(scales):
            raise ValueError("it has no scales")
        return checkpoint._replace(policy=dequantize(Quantized(checkpoint.policy, scales)))
    except ValueError as error:
        raise CheckpointError(f"checkpoint '{path}' is damaged or not a checkpoint of this project ({error})") from error


def _are_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items())


def _is_well_formed(checkpoint: Checkpoint) -> bool:
    sections = checkpoint.config
    return (
        isinstance(sections, dict)
        and all(isinstance(name, str) and isinstance(values, dict) for name, values in sections.items())
        and _are_tensors(checkpoint.policy)
        and all(type(size) is int for size in (checkpoint.observation_size, checkpoint.action_size))
        and (checkpoint.trainer is None or isinstance(checkpoint.trainer, dict))
        and isinstance(checkpoint.origin, (dict, type(None)))
    )


def without_critic(checkpoint: Checkpoint) -> Checkpoint:
    """What acts, and nothing that only training needs."""
    weights = {name: tensor for name, tensor in checkpoint.policy.items() if not name.startswith(CRITIC_PREFIXES)}
    return checkpoint._replace(policy=weights, trainer=None)


def compact(checkpoint: Checkpoint, with_critic: bool) -> Checkpoint:
    """A small checkpoint for carrying and publishing: weights in half precision, no optimiser, the critic only if asked for.

    The normaliser stays in full precision. Without its critic a policy acts as before; training on from it starts a new critic, and of
    absolute paths among its options the last names stay: folders are those of the machine that trained it. With its critic a run can go
    on from it in new episodes: counters and samplers come along, these to three digits.
    """
    weights = {name: tensor for name, tensor in checkpoint.policy.items() if with_critic or not name.startswith(CRITIC_PREFIXES)}
    halved = {name: tensor if name.startswith("obs_norm.") else tensor.half() for name, tensor in weights.items()}
    if not with_critic:
        return checkpoint._replace(config=_without_folders(checkpoint.config), policy=halved, trainer=None)
    trainer = checkpoint.trainer
    if trainer is not None:
        carried = {name: trainer[name] for name in CARRIED if name in trainer}
        trainer = {**carried, "ranks": [{"sampler": _shortened(own["sampler"])} for own in trainer.get("ranks", [])]}
    return checkpoint._replace(policy=halved, trainer=trainer)


def _without_folders(config: Dict[str, Any]) -> Dict[str, Any]:
    """Options by section, absolute paths among them reduced to their last names."""
    return {section: {name: _without_folder(value) for name, value in options.items()} for section, options in config.items()}


def _without_folder(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _shortened(state: Dict[str, Any]) -> Dict[str, Any]:
    """The tensors of ``state`` with floating point numbers in 16 bits of float32's range."""
    return {name: value.bfloat16() if torch.is_tensor(value) and value.is_floating_point() else value for name, value in state.items()}


def load_policy(policy: torch.nn.Module, checkpoint: Checkpoint, path: Union[str, Path]) -> None:
    """Copy the checkpoint's weights into ``policy``, whose critic stays as it is where a compact checkpoint has none.

    Raises ``CheckpointError`` when the weights are of another architecture.
    """
    kept = {name: tensor for name, tensor in policy.state_dict().items() if name.startswith(CRITIC_PREFIXES)}
    has_critic = any(name.startswith(CRITIC_PREFIXES) for name in checkpoint.policy)
    try:
        policy.load_state_dict(checkpoint.policy if has_critic else {**kept, **checkpoint.policy})
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise CheckpointError(f"checkpoint '{path}' does not fit this policy: {first[0].strip()}") from error
