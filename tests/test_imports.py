"""Imports go one way, and importing loads neither an engine nor a viewer nor a tracker."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "puffer_phc"

FOUNDATION = (
    "addresses",
    "rotations",
    "state",
    "errors",
    "config",
    "randomness",
    "resources",
    "files",
    "reporter",
    "threads",
    "looking",
    "mujoco_loading",
)
SETTLING = ("option_words", "options", "resolve", "build", "command_line")
SHOWING = ("view", "report", "play", "watch")
ALLOWED = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "humanoid": FOUNDATION,
    "motion": (*FOUNDATION, "humanoid"),
    "sim": (*FOUNDATION, "humanoid"),
    "env": (*FOUNDATION, "humanoid", "motion", "sim"),
    "evaluate": (*FOUNDATION, "humanoid", "motion", "sim", "env"),
    "learn": (*FOUNDATION, "humanoid", "motion", "sim", "env", "evaluate"),
    "sweep": (*FOUNDATION, "humanoid", "motion", "sim", "env", "evaluate", "learn"),
    "view": (*FOUNDATION, "humanoid", "motion"),
    "report": (*FOUNDATION, "humanoid", "env", "evaluate", "sweep", "view"),
    "play": (*FOUNDATION, "humanoid", "motion", "env", "learn", "view"),
    **dict.fromkeys(SETTLING, (*FOUNDATION, *SETTLING, "humanoid", "motion", "sim", "env", "evaluate", "learn")),
    "watch": (*FOUNDATION, *SETTLING, "motion", "evaluate", "learn", "report", "view"),
    "commands": (*FOUNDATION, *SETTLING, "humanoid", "motion", "sim", "env", "evaluate", "learn", "sweep", *SHOWING),
    "main": ("command_line", "commands", "errors", "options", "resources"),
}
"""What each part may import besides itself. The two that are not named are where programs begin, ``start`` and ``doctor``."""

MODES = {"train", "evaluate", "play", "sweep", "export", "reproduction"}
"""Files of ``commands`` that begin something of their own: none of them needs another."""

ENGINES = {"mujoco", "mujoco_warp", "warp", "isaacgym"}
BACKENDS = {"puffer_phc.sim.mujoco_cpu", "puffer_phc.sim.mujoco_warp", "puffer_phc.sim.isaac_gym"}
HEAVY = sorted({*ENGINES, "wandb", "tensorboard", "viser", "imageio", "matplotlib"})


def imported_modules(path):
    """Full names of everything that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module):
    """The first name below the package: a folder or a file of its root."""
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "puffer_phc" and len(pieces) > 1 else None


def files():
    return sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    parts = {part_of(module) for module in imported_modules(path)} - {None, own, "__version__"}
    assert own not in ALLOWED or parts <= set(ALLOWED[own]), f"{own} imports {sorted(parts - set(ALLOWED[own]))}"


@pytest.mark.parametrize("mode", sorted(MODES))
def test_no_mode_needs_another(mode):
    own = f"puffer_phc.commands.{mode}"
    others = {f"puffer_phc.commands.{other}" for other in MODES - {mode}}
    assert not others & set(imported_modules(PACKAGE / "commands" / f"{mode}.py")), own


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_backends_know_an_engine(path):
    own = path.relative_to(PACKAGE).parts[0]
    modules = set(imported_modules(path))
    if own == "env":
        assert not modules & BACKENDS
    if own not in ("sim", "mujoco_loading.py"):
        assert not {module.split(".")[0] for module in modules} & ENGINES


def test_mujoco_is_loaded_in_one_place():
    """What keeps it from loading is one line, whoever asks. The backends ask that place first."""
    loading = {path.name for path in files() if {module.split(".")[0] for module in imported_modules(path)} & {"mujoco"}}
    assert loading == {"mujoco_cpu.py", "mujoco_warp.py"}
    assert "import_module" in (PACKAGE / "mujoco_loading.py").read_text(encoding="utf-8")


def test_the_law_names_every_part_of_the_package():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in files()}
    assert parts - set(ALLOWED) == {"__init__", "start", "doctor"}


@pytest.mark.parametrize("module", ["puffer_phc", "puffer_phc.main", "puffer_phc.env.puffer", "puffer_phc.evaluate.evaluation"])
def test_importing_loads_no_engine_viewer_or_tracker(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == []
