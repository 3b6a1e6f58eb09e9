"""What made a checkpoint: versions of the program and of the engines under it."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Dict

import puffer_phc
from puffer_phc.resources import is_installed, resource_root

_PACKAGES = ("torch", "numpy", "mujoco", "mujoco-warp", "warp-lang", "pufferlib-core")


def origin() -> Dict[str, str]:
    """Versions by name; ``commit`` is that of the checkout, marked -dirty where it was edited, and missing in an installed package."""
    versions = {"puffer_phc": puffer_phc.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = "" if is_installed() else _commit()
    return {**versions, "commit": commit} if commit else versions


def _commit() -> str:
    command = ["git", "-C", str(resource_root()), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
