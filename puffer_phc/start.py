"""Where the program begins: Isaac Gym has to be imported before torch, so who asks for it is found out before anything else."""

import json
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

from puffer_phc.errors import PhcError
from puffer_phc.option_words import parse_values, read_command_line, read_ini
from puffer_phc.resources import resource_root
from puffer_phc.sim.isaac_loading import load_early


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run what the command line (default: this process's) asks for; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if asked_backend(words) == "isaac_gym":
        load_early()
    from puffer_phc.main import main as run  # imports torch

    return run(words)


def asked_backend(words: Sequence[str]) -> Optional[str]:
    """What ``env.backend`` will be, by the command line, the run to resume or the config file.

    None where that can't be read: whoever reads it properly, later, says why.
    """
    try:
        own = parse_values(read_command_line([word for word in words if word not in ("-h", "--help")]))
        if "env.backend" in own:
            return own["env.backend"]
        if own.get("resume"):
            return _resumed(Path(own["resume"]))["env"]["backend"]
        return parse_values(read_ini(own.get("config") or resource_root() / "config.ini")).get("env.backend")
    except (PhcError, OSError, ValueError, KeyError, TypeError):
        return None


def _resumed(run_dir: Path) -> Any:
    """The options that a run's folder was made with."""
    return json.loads((run_dir / "config.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
