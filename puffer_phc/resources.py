"""Files that travel with the project: in a wheel inside the package, in a checkout at the repository's root."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def is_installed() -> bool:
    """Whether the package runs from a wheel, without the repository around it."""
    return (_PACKAGE / "config.ini").is_file()


def resource_root() -> Path:
    """The folder that holds config.ini and sample_data: the package in a wheel, else the repository."""
    return _PACKAGE if is_installed() else _PACKAGE.parent
