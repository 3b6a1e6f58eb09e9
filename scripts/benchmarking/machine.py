"""What the figures were measured on."""

import os
import platform
import sys
from importlib import metadata
from typing import Optional

import torch

from benchmarking.setting import Row


def memory_gb(device: torch.device) -> Optional[float]:
    """What is taken of the GPU's memory by all that runs on it, pools included; on a CPU the largest size this process ever had.

    None where the system does not tell (Windows).
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 1e9
    try:
        import resource
    except ImportError:
        return None
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 1e9


def machine(device: torch.device) -> Row:
    """What the figures were measured on and with."""
    versions = {name: metadata.version(name) for name in ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy") if is_installed(name)}
    described = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "device": described.name if described else platform.processor() or platform.machine(),
        "memory_gb": described.total_memory / 1e9 if described else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **versions,
    }


def is_installed(package: str) -> bool:
    """Whether pip knows the package here."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
