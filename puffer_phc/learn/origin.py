"""What made a checkpoint: versions of the program and of the engines under it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Dict

import torch

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


def machine(device: torch.device) -> Dict[str, str]:
    """The host, its operating system and processors, and the GPU that ``device`` is."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    return {"host": platform.node(), "system": platform.platform(), "processors": str(os.cpu_count()), "gpu": name}


def _commit() -> str:
    command = ["git", "-C", str(resource_root()), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
