"""The checkpoints in a run's folder: of each a file of the first process, and one of each other's own state beside it.

Nobody waits for another in writing. A process's own file names the moment that it is of, so that states of different moments never meet.
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Set, Tuple

import torch
from torch import nn

from puffer_phc.errors import CheckpointError
from puffer_phc.files import is_there, sync_folder, whole_file
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint, read_plain, save_checkpoint, write_errors, write_plain

logger = logging.getLogger(__name__)

LATEST = "latest.pt"
"""The last checkpoint in a run's folder."""


def checkpoint_path(run_dir: Path, iteration: int) -> Path:
    """The checkpoint of an iteration."""
    return run_dir / f"model_{iteration:08d}.pt"


def own_path(run_dir: Path, iteration: int, rank: int, num_processes: int) -> Path:
    """What process ``rank`` of several has for itself, beside the checkpoint of an iteration."""
    return run_dir / f"own_{iteration:08d}_rank{rank}of{num_processes}.pt"


def moment(iteration: int, num_processes: int, policy: nn.Module) -> Dict[str, int]:
    """What all files of one checkpoint agree in: besides its iteration, a sum of all bits of the weights, equal in all processes.

    An iteration may come twice, where a run goes on from before it; on a GPU its weights then differ. Waits for the device.
    """
    bits = [parameter.detach().contiguous().view(torch.int32).sum(dtype=torch.int64) for parameter in policy.parameters()]
    return {"iteration": iteration, "num_processes": num_processes, "weights": int(torch.stack(bits).sum())}


def save_in_run(run_dir: Path, checkpoint: Checkpoint, iteration: int, keep: int) -> Path:
    """Write ``model_<iteration>.pt`` to a run's folder, make it ``latest.pt`` too, and delete all but the ``keep`` newest.

    Raises ``CheckpointError`` as ``save_checkpoint`` does; earlier checkpoints then stay as they are.
    """
    path = checkpoint_path(run_dir, iteration)
    try:
        save_checkpoint(path, checkpoint)
        make_latest(path)
        for old in sorted(run_dir.glob("model_*.pt"))[:-keep]:
            if old != path:
                _delete(old)
    finally:
        _delete_left_over(run_dir, iteration)
    return path


def make_latest(path: Path) -> None:
    """Make a checkpoint its folder's ``latest.pt``, too. Raises ``CheckpointError`` where that can't be written."""
    latest = path.with_name(LATEST)
    with write_errors(latest), whole_file(latest) as temporary:
        _same_file(path, temporary)


def writings(run_dir: Path) -> Set[Tuple[Path, int, int]]:
    """The checkpoints by iteration in a run's folder, each with numbers that are others when it is written again."""
    found = set()
    for path in run_dir.glob("model_*.pt"):
        with contextlib.suppress(FileNotFoundError):  # another process tidies up
            file = path.stat()
            found.add((path, file.st_ino, file.st_mtime_ns))
    return found


def _delete_left_over(run_dir: Path, iteration: int) -> None:
    """Other processes' own files from before ``iteration`` whose checkpoint is gone, or found no room while they did."""
    for own in run_dir.glob("own_*_*.pt"):
        number = own.name.split("_")[1]
        if number < f"{iteration:08d}" and not (run_dir / f"model_{number}.pt").exists():
            _delete(own)


def save_own(run_dir: Path, own: Dict[str, Any], of: Dict[str, int], rank: int) -> None:
    """Write what process ``rank`` has for itself at the moment ``of``. Raises ``CheckpointError`` as ``save_checkpoint`` does."""
    write_plain(own_path(run_dir, of["iteration"], rank, of["num_processes"]), {"moment": of, "rank": rank, "own": own})


def load_own(run_dir: Path, state: Dict[str, Any], rank: int, num_processes: int) -> Optional[Dict[str, Any]]:
    """What process ``rank`` of ``num_processes`` had for itself when ``Checkpoint.trainer`` was ``state``.

    None where that is not known: there were other numbers of processes, its file is missing, damaged (said in a line) or of another
    moment, or ``state`` is that of a compact checkpoint or of a run that lost a process.
    """
    ranks, of = state["ranks"], state.get("moment", {"num_processes": len(state["ranks"])})
    if of["num_processes"] != num_processes:
        return None
    if rank < len(ranks):
        return ranks[rank] if "env" in ranks[rank] else None
    return _read_own(own_path(run_dir, of["iteration"], rank, num_processes), of)


def _read_own(path: Path, of: Dict[str, int]) -> Optional[Dict[str, Any]]:
    if not is_there(path):
        return None
    try:
        content = read_plain(path)
    except CheckpointError as error:
        logger.warning("%s", error)
        return None
    return content["own"] if isinstance(content, dict) and content.get("moment") == of else None


def load_newest(run_dir: Path) -> Tuple[Path, Checkpoint]:
    """The newest whole checkpoint in a run's folder, and its file: ``latest.pt``, or where it is damaged the newest other one.

    Raises ``CheckpointError`` where there is none.
    """
    if not is_there(run_dir):
        raise CheckpointError(f"run folder '{run_dir}' does not exist")
    if not run_dir.is_dir():
        raise CheckpointError(f"'{run_dir}' is not a run's folder but a file; a checkpoint in a file is taken with -c")
    first_error: Optional[CheckpointError] = None
    for path in (run_dir / LATEST, *sorted(run_dir.glob("model_*.pt"), reverse=True)):
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            first_error = first_error or error
            continue
        if first_error is not None:
            logger.warning("%s; taking '%s' instead", first_error, path.name)
        return path, checkpoint
    raise first_error or CheckpointError(f"run folder '{run_dir}' has no checkpoint")


def newest_run(folder: Path) -> Path:
    """``folder`` itself where it is a run's, else of the runs in it the one whose ``latest.pt`` is the youngest.

    Raises ``CheckpointError`` where there is none.
    """
    if is_there(folder / LATEST):
        return folder
    runs = [path.parent for path in folder.glob(f"*/{LATEST}")]
    if not runs:
        raise CheckpointError(f"'{folder}' holds neither a checkpoint ({LATEST}) nor runs with one")
    return max(runs, key=lambda run: (run / LATEST).stat().st_mtime_ns)


def _same_file(path: Path, other: Path) -> None:
    """Make ``other`` a second name of ``path``, or a copy where the file system has no second names."""
    other.unlink()
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
        with other.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(path.parent)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
