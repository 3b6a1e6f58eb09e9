"""What is on this machine, what is missing, what that would give, and the command that brings it: ``python -m puffer_phc.doctor``.

It looks and says; it builds nothing, installs nothing and always ends with exit code 0.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from puffer_phc.resources import is_installed, resource_root
from puffer_phc.sim.isaac_loading import ISAAC_GYM_STEPS

_PATIENCE = 60.0
"""s for a picture: a processor draws it in a tenth of one, after MuJoCo is loaded."""

_OLD_PYTHON = "needs Python 3.10 or newer; this one is {}"


class Finding(NamedTuple):
    """One thing that this project can use."""

    group: str
    name: str
    found: Optional[str]
    """What is there; None where it is missing."""
    gives: str = ""
    """What it gives, or would give."""
    command: str = ""
    """What brings it."""


class Drawing(NamedTuple):
    """What came of drawing a picture."""

    is_possible: bool
    words: str
    """With what it was drawn, or why not."""


class Machine:
    """What the checks ask: versions of installed distributions, modules that could be imported, programs on the path.

    Nothing is imported to find out, but for torch, which alone knows the CUDA devices; pictures are tried in a process of their own.
    """

    def version(self, distribution: str) -> Optional[str]:
        """The version of an installed distribution; None where it is not installed."""
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None

    def has_module(self, name: str) -> bool:
        """Whether ``import name`` would find something."""
        return find_spec(name) is not None

    def program(self, name: str) -> Optional[str]:
        """Where a program is on the path."""
        return shutil.which(name)

    def drawing(self) -> Drawing:
        """Whether a picture can be drawn without a window. In another process: a driver that is broken may end it."""
        command = [sys.executable, "-c", "from puffer_phc.view.offscreen import drawing; print(drawing())"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return Drawing(False, f"no picture within {_PATIENCE:.0f} s")
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        words = (
            lines[-1].replace("puffer_phc.errors.BackendError: ", "") if lines else f"the driver ended the process with {done.returncode}"
        )
        return Drawing(done.returncode == 0, words)

    def python(self) -> "tuple[int, int]":
        """Version of this interpreter."""
        return sys.version_info[:2]


def interpreter(machine: Machine) -> List[Finding]:
    """Python and torch."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [
        Finding("interpreter", "python", f"{system}, {sys.executable}"),
        Finding("interpreter", "torch", machine.version("torch"), "everything but data conversion", "pip install torch"),
        Finding("interpreter", "puffer-phc", f"{'a wheel' if is_installed() else 'a checkout'} in {resource_root()}"),
    ]


def devices(machine: Machine) -> List[Finding]:
    """CUDA devices, as torch sees them."""
    gives = "backend mujoco_warp: hundreds of thousands of steps a second (docs/results.md)"
    if machine.version("torch") is None:
        return [Finding("devices", "cuda", None, gives, "pip install torch")]
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return [Finding("devices", "cuda", None, gives, "a build of torch with CUDA, see https://pytorch.org/get-started")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found = f"{len(names)} × {', '.join(sorted(set(names)))} (CUDA {torch.version.cuda})" if names else None
    return [Finding("devices", "cuda", found, gives, "an NVIDIA GPU with its driver; this torch is ready for one"), _compilers(machine)]


def _compilers(machine: Machine) -> Finding:
    """What torch.compile needs for a GPU."""
    compiler = next((path for path in map(machine.program, (os.environ.get("CC") or "cc", "gcc", "clang")) if path), None)
    found = f"triton {machine.version('triton')}, {compiler}" if machine.has_module("triton") and compiler else None
    return Finding(
        "devices", "torch.compile", found, "faster updates on a GPU (train.compile)", "a C compiler (apt-get install gcc) and Triton"
    )


def backends(machine: Machine) -> List[Finding]:
    """The physics engines, and what Isaac Gym needs besides itself."""
    mujoco, warp = machine.version("mujoco"), machine.version("mujoco-warp")
    is_new = machine.python() >= (3, 10)
    too_old = _OLD_PYTHON.format(platform.python_version())
    cpu = f"MuJoCo {mujoco}" if is_new and mujoco else None
    return [
        Finding("backends", "mujoco_cpu", cpu, "simulation on any CPU", "pip install 'mujoco>=3.17,<4'" if is_new else too_old),
        Finding(
            "backends",
            "mujoco_warp",
            f"MuJoCo Warp {warp}, Warp {machine.version('warp-lang')}" if is_new and warp else None,
            "simulation on an NVIDIA GPU",
            "pip install 'mujoco-warp>=3.17,<4' 'warp-lang>=1.19' (x86-64 Linux or Windows)" if is_new else too_old,
        ),
        Finding(
            "backends",
            "isaac_gym",
            _isaac_gym() if machine.has_module("isaacgym") else None,
            "the original's engine (docs/isaac_gym.md)",
            ISAAC_GYM_STEPS,
        ),
        Finding(
            "backends",
            "gymtorch",
            machine.version("gymtorch"),
            "Isaac Gym's memory as tensors without its own compilation at every first start",
            "pip install setuptools wheel && pip install --no-build-isolation ./gymtorch "
            "(a C++ compiler; for a debugger: CFLAGS='-O0 -g' before the second)",
        ),
    ]


def _isaac_gym() -> str:
    spec = find_spec("isaacgym")
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else "present"


def pictures(machine: Machine) -> List[Finding]:
    """OpenGL, which draws where there is no window, and what ``MUJOCO_GL`` makes of it."""
    gives = "videos, recordings and an evaluation's pictures; training, evaluation, the window and the web page do without"
    chosen = os.environ.get("MUJOCO_GL", "")
    setting = f"MUJOCO_GL is {chosen}" if chosen else "MUJOCO_GL is not set, so that every binding is tried"
    if machine.version("mujoco") is None:
        return [Finding("pictures", "OpenGL", None, gives, "MuJoCo first: see backends")]
    drawing = machine.drawing()
    if drawing.is_possible:
        return [Finding("pictures", "OpenGL", f"{drawing.words} ({setting})")]
    return [Finding("pictures", "OpenGL", None, f"{gives} ({setting}; {drawing.words})", _opengl_command(bool(chosen)))]


def _opengl_command(is_chosen: bool) -> str:
    """What brings OpenGL."""
    packages = "apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)" if sys.platform.startswith("linux") else "a graphics driver"
    return f"unset MUJOCO_GL, so that others are tried; or {packages}" if is_chosen else packages


_EXTRAS = (
    ("wandb", "--track", "'puffer-phc[wandb]'"),
    ("tensorboard", "--tensorboard", "'puffer-phc[tensorboard]'"),
    ("onnx", "scripts/export_policy.py", "'puffer-phc[onnx]'"),
    ("viser", "play on a web page", "viser"),
    ("imageio-ffmpeg", "videos as .mp4", "imageio-ffmpeg"),
    ("matplotlib", "charts in the page of an evaluation", "matplotlib"),
)
"""Name, what it gives, what to install."""


def extras(machine: Machine) -> List[Finding]:
    """Optional packages."""
    found = [Finding("extras", name, machine.version(name), gives, f"pip install {what}") for name, gives, what in _EXTRAS]
    tools = {name: machine.version(name) for name in ("pytest", "hypothesis", "ruff", "pyright", "isaacgym-stubs")}
    absent = [name for name, version in tools.items() if version is None]
    found.append(
        Finding(
            "extras",
            "dev",
            None if absent else ", ".join(f"{name} {version}" for name, version in tools.items()),
            f"tests and checks (missing: {', '.join(absent)})" if absent else "tests and checks",
            "pip install -e '.[dev]'",
        )
    )
    return found


def data(machine: Machine) -> List[Finding]:
    """Files: motions, the shipped policy, the user's own body models."""
    root = resource_root()
    motions, policy = root / "sample_data" / "deepmimic.npz", root / "sample_data" / "policy.pt"
    bodies = sorted(path.name for path in (root / "smpl").glob("SMPL_*.pkl"))
    convert = "python scripts/convert_mocap_data.py --help, or convert_amass_data.py (docs/motion.md)"
    own = sorted(path.name for path in (root / "data").glob("*.npz")) if (root / "data").is_dir() else []
    return [
        Finding("data", "sample motions", _size(motions), "training without any download", "git checkout -- sample_data"),
        Finding(
            "data", "sample policy", _size(policy), "play and eval without training first", "python scripts/train.py, then -c RUN/latest.pt"
        ),
        Finding("data", "own motions", ", ".join(own) or None, "training on more than the samples", convert),
        Finding(
            "data", "SMPL model", ", ".join(bodies) or None, "--floor mesh of the AMASS conversion; nothing else", "see smpl/README.md"
        ),
    ]


def _size(path: Path) -> Optional[str]:
    return f"{path} ({path.stat().st_size / 1e6:.1f} MB)" if path.is_file() else None


CHECKS: Dict[str, Callable[[Machine], List[Finding]]] = {
    "interpreter": interpreter,
    "devices": devices,
    "backends": backends,
    "pictures": pictures,
    "extras": extras,
    "data": data,
}
"""By the group of findings that they make."""


def examine(machine: Machine) -> List[Finding]:
    """All findings. A check that fails itself is one: what is broken here must not keep the rest from being seen."""
    found = []
    for group, check in CHECKS.items():
        try:
            found += check(machine)
        except Exception as error:
            found.append(Finding(group, "?", None, f"this could not be looked at: {type(error).__name__}: {error}", "mend that first"))
    return found


def report(found: List[Finding]) -> str:
    """The findings as lines: what is there with its version, what is missing with what it gives and the command."""
    lines: List[str] = []
    for group in dict.fromkeys(finding.group for finding in found):
        lines.append(group)
        for finding in (finding for finding in found if finding.group == group):
            if finding.found is not None:
                lines.append(f"  + {finding.name}: {finding.found}")
            else:
                lines += [f"  - {finding.name}: missing; gives {finding.gives}", f"      {finding.command}"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the report; always 0, even where nothing can be printed."""
    text = report(examine(Machine()))
    try:
        sys.stdout.write(text.encode(sys.stdout.encoding or "utf-8", "replace").decode(sys.stdout.encoding or "utf-8"))
        sys.stdout.flush()
    except OSError:  # a full disk, a reader that is gone: what is still held back would fail again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
