"""Files that appear whole or not at all, whatever stops their writer, that never follow a link out of their folder, and a folder's lock."""

import contextlib
import errno
import os
import secrets
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterator

from puffer_phc.errors import ConfigError

PART_SUFFIX = ".part"
"""Ending of files under way."""

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""What systems say of a lock that another process has."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A neighbour of ``path`` to write to: it takes the name ``path`` at the end of the block, and vanishes where the block fails.

    The neighbour is new, under a name that nobody can have put a link at; a link at ``path`` itself is replaced, never written through.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    make_new(temporary)
    try:
        yield temporary
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        if temporary.exists():
            temporary.unlink()


def check_writable(folder: Path) -> None:
    """Raise ConfigError where files can't be made in ``folder`` or in the folders that have to be made for it. Leaves nothing there."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ConfigError(f"can't write to '{folder}': '{existing}' is not a folder")
    try:
        with tempfile.TemporaryFile(dir=str(existing)):
            pass
    except OSError as error:
        raise ConfigError(f"can't write to '{folder}': {error.strerror or error} in '{existing}'") from error


def check_writable_file(path: Path) -> None:
    """Raise ConfigError where a file can't be put at ``path``, whose folder has to be there. Leaves nothing there."""
    folder = path.absolute().parent
    if not is_there(folder):
        raise ConfigError(f"can't write '{path}': folder '{folder}' does not exist")
    if path.is_dir():
        raise ConfigError(f"can't write '{path}': it is a folder")
    check_writable(folder)


def make_folder(folder: Path) -> None:
    """Make ``folder`` where it is missing. Raises ConfigError where files can't be made in it."""
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)


def is_there(path: Path) -> bool:
    """Whether there is anything at ``path``; no for what can be the name of nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a zero byte
        return False


def make_new(path: Path) -> None:
    """An empty file at ``path``. Raises OSError where there is anything already, a link among them."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINKS, 0o666))


def write_whole(path: Path, text: str) -> None:
    """Put ``text`` at ``path``, as ``whole_file`` does."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Force the names in ``folder`` to disk, where the system can: a power cut then keeps the renames that came before."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Delete what killed writers left in ``folder``."""
    for part in folder.glob(f"*{PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            part.unlink()


def log_for_others(path: Path) -> BinaryIO:
    """A file that other processes add what they print to. Raises OSError where ``path`` is a link, as ``LineFile`` does."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | _NO_LINKS, 0o666), "ab")


class LineFile:
    """A text file that lines are added to, each of them at once and whole.

    Raises OSError where ``path`` is a link: what stands there belongs to somebody else.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | _NO_LINKS, 0o666)

    def write(self, line: str) -> None:
        """Add ``line``. Raises OSError, and takes back what was written of it, where the disk has no room for all of it."""
        content, size = f"{line}\n".encode(), os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class FolderLock:
    """Keeps other processes out of a folder for as long as this one lives; nothing is left to clean up after a crash.

    The lock is this process's alone: one that belonged to the open file would be kept, after a kill -9, by a process that is just being
    started and still has a copy of all that was open. Where the file system knows no locks, nobody is kept out.

    Raises ConfigError: ``complaint`` where another process is there, or that the folder can't be written to.
    """

    def __init__(self, folder: Path, complaint: str) -> None:
        try:
            self._descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | _NO_LINKS, 0o666)
        except OSError as error:
            raise ConfigError(f"can't write to '{folder / 'lock'}': {error.strerror or error}") from error
        try:
            _lock(self._descriptor)
        except OSError as error:
            if error.errno in _TAKEN:
                self.release()
                raise ConfigError(complaint) from error

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        getattr(msvcrt, "locking")(descriptor, getattr(msvcrt, "LK_NBLCK"), 1)  # noqa: B009 - absent from this system's stubs
