"""Files that travel with the project: in a wheel inside the package, in a checkout at the repository's root."""

import os
from pathlib import Path
from typing import Dict

from puffer_phc.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def is_installed() -> bool:
    """Whether the package runs from a wheel, without the repository around it."""
    return (_PACKAGE / "config.ini").is_file()


def resource_root() -> Path:
    """The folder that holds config.ini and sample_data: the package in a wheel, else the repository."""
    return _PACKAGE if is_installed() else _PACKAGE.parent


TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Where a process learns which of how many it is, and where the others are."""


def num_processes() -> int:
    """How many processes of this program work together, this one among them: as many as torchrun has started.

    Raises ConfigError where the environment holds no such number.
    """
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal() or int(said) < 1:
        raise ConfigError(f"the environment's WORLD_SIZE is '{said}', not a number of processes")
    return int(said)


def child_environment() -> Dict[str, str]:
    """This process's variables for another process of this program: it finds the package, and is none of torchrun's."""
    environment = {name: value for name, value in os.environ.items() if name not in TORCHRUN_VARIABLES}
    if not is_installed():
        environment["PYTHONPATH"] = os.pathsep.join([str(resource_root()), *filter(None, [environment.get("PYTHONPATH")])])
    return environment
