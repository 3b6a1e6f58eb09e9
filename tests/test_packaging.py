"""The wheel: what it carries, where the installed package finds it, and what pip is told to bring along."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from puffer_phc.config import EnvConfig
from puffer_phc.resources import is_installed, resource_root

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_a_checkout_uses_its_own_files():
    assert not is_installed()
    assert resource_root() == REPOSITORY
    assert (resource_root() / EnvConfig().motion_file).is_file()


@pytest.fixture
def installed(tmp_path):
    """The package laid out as the wheel lays it out, by the mapping of pyproject.toml."""
    site = tmp_path / "site"
    shutil.copytree(REPOSITORY / "puffer_phc", site / "puffer_phc", ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items():
        copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy
        copy(REPOSITORY / source, site / target)
    return site


def contents():
    """Names in a wheel of the files that it is to carry, read from the disk: nothing of the package and its data may be left out."""
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in {"puffer_phc": "puffer_phc", **included}.items():
        top = REPOSITORY / source
        for path in [top] if top.is_file() else (path for path in top.rglob("*") if path.is_file()):
            if "__pycache__" not in path.parts:
                yield (Path(target) / path.relative_to(top)).as_posix()


def test_the_wheel_carries_every_file_of_the_package(tmp_path):
    pytest.importorskip("hatchling", reason="builds the wheel; pip install -e '.[dev]' brings it")
    build = f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, cwd=REPOSITORY)
    (wheel,) = tmp_path.glob("*.whl")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert carried == set(contents())
    for name in ("config/__init__.py", "report/static/page.css", "humanoid/humanoid.xml", "sample_data/deepmimic.npz", "config.ini"):
        assert f"puffer_phc/{name}" in carried


@pytest.mark.skipif(shutil.which("git") is None or not (REPOSITORY / ".git").exists(), reason="no checkout")
def test_git_ignores_no_file_of_the_package():
    """What it ignores is in no wheel: a sub-package called build would be in none."""
    files = [path for path in (REPOSITORY / "puffer_phc").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    words = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(words, input="\n".join(map(str, files)), capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_installed_package_reads_from_itself_and_writes_where_the_user_stands(installed, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    code = (
        "from puffer_phc.options import parse_options; from puffer_phc.motion.file import load_motion_file; import puffer_phc;"
        "a = parse_options([]); print(puffer_phc.__file__, a.env.motion_file, a.train.data_dir, len(load_motion_file(a.env.motion_file)))"
    )
    environment = {"PYTHONPATH": str(installed), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here, env=environment)
    package, motion_file, data_dir, num_clips = done.stdout.split()
    assert Path(package).is_relative_to(installed)
    assert Path(motion_file) == installed / "puffer_phc" / EnvConfig().motion_file
    assert Path(data_dir) == here / "experiments"
    assert int(num_clips) == 15


def test_the_console_script_is_the_script():
    module, _, function = PYPROJECT["project"]["scripts"]["puffer-phc"].partition(":")
    assert f"from {module} import {function}" in (REPOSITORY / "scripts" / "train.py").read_text(encoding="utf-8")


def brought_along(python_version, machine, platform):
    """Names of the core dependencies whose markers hold there."""
    packaging = pytest.importorskip("packaging.requirements")
    environment = {"python_version": python_version, "platform_machine": machine, "sys_platform": platform}
    requirements = [packaging.Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
    return {requirement.name for requirement in requirements if requirement.marker is None or requirement.marker.evaluate(environment)}


@pytest.mark.parametrize(
    ("python_version", "machine", "platform", "engines"),
    [
        ("3.8", "x86_64", "linux", set()),
        ("3.10", "x86_64", "linux", {"mujoco", "mujoco-warp", "warp-lang"}),
        ("3.13", "AMD64", "win32", {"mujoco", "mujoco-warp", "warp-lang"}),
        ("3.12", "arm64", "darwin", {"mujoco"}),
        ("3.12", "aarch64", "linux", {"mujoco"}),
    ],
)
def test_engines_come_where_they_run(python_version, machine, platform, engines):
    names = brought_along(python_version, machine, platform)
    assert names & {"mujoco", "mujoco-warp", "warp-lang"} == engines
    assert {"torch", "numpy", "scipy", "joblib", "gymnasium", "pufferlib-core", "tyro", "rich"} <= names
    assert {"viser", "imageio", "matplotlib"} <= names


def test_python_3_8_is_not_locked_out():
    assert PYPROJECT["project"]["requires-python"] == ">=3.8"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py38"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the names of the standard library need Python 3.10")
def test_every_import_is_a_dependency():
    distributions = {
        "pufferlib": "pufferlib-core",
        "warp": "warp-lang",
        "mujoco_warp": "mujoco-warp",
        "PIL": "pillow",
        "imageio_ffmpeg": "imageio",
    }
    groups = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    declared = {re.split(r"[^\w-]", line)[0] for group in groups for line in group} | {"isaacgym", "gymtorch", "puffer_phc"}
    declared |= {folder.name for folder in (REPOSITORY / "scripts").iterdir() if folder.is_dir()} | {"browser"}  # of tests/, for pictures
    for path in [*(REPOSITORY / "puffer_phc").rglob("*.py"), *(REPOSITORY / "scripts").rglob("*.py")]:
        for name in top_level_imports(path) - set(sys.stdlib_module_names):
            assert distributions.get(name, name) in declared, f"{path.name} imports {name}"


def top_level_imports(path):
    """First parts of the names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names
