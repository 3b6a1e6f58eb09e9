"""Files that appear whole or not at all, whatever stops their writer."""

import contextlib
import os
from pathlib import Path
from typing import Iterator


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A neighbour of ``path`` to write to: it takes the name ``path`` at the end of the block, and vanishes where the block fails."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.exists():
            temporary.unlink()
