"""What the documents promise exists: commands parse, files are there, tables name what the code names."""

import re
import shlex
import typing
from pathlib import Path

import pytest

from puffer_phc.config import EnvConfig
from puffer_phc.option_words import Arguments, parse_values, read_command_line

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("sample_data/*.md")])


def commands():
    """Every command of the documents: lines of bash blocks and inline code that begins with a command."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`((?:python|pip|pytest|bash|puffer-phc) [^`]*)`", text)
        for line in lines:
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words:
                    yield pytest.param(words, id=f"{path.name}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_can_be_run(words):
    if words[:2] == ["python", "scripts/train.py"] or words[0] == "puffer-phc":
        parse_values(read_command_line([word for word in words[2 if words[0] == "python" else 1 :] if word != "--help"]))
    for word in words:
        if word.endswith(".py") or word.startswith(".ci/"):
            assert (REPOSITORY / word).is_file()
    if words[0] == "pip":
        extras = re.findall(r"\[(.*)\]", words[-1])
        pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
        assert all(f"\n{extra} = [" in pyproject for extra in extras)
        assert words[1] == "install"


def test_the_two_commands_are_there():
    shown = [" ".join(parameter.values[0]) for parameter in commands()]
    for command in ("pip install -e .", "python scripts/train.py", "pip install -e .[dev]", "pytest"):
        assert command in shown


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def first_columns(heading):
    """The code words in the first column of the table under a heading of the README."""
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_tables_name_all_backends_and_modes():
    backends = set(typing.get_args(typing.get_type_hints(EnvConfig)["backend"]))
    modes = set(typing.get_args(typing.get_type_hints(Arguments)["mode"]))
    assert first_columns("Backends") - {"--env.backend"} == backends
    assert first_columns("Modes") == modes


def test_the_map_names_folders_that_exist_and_all_of_the_package():
    named = first_columns("Map")
    for name in named:
        assert (REPOSITORY / name).exists() or (REPOSITORY / "puffer_phc" / name).exists(), name
    assert {f"puffer_phc/{path.parent.name}/" for path in REPOSITORY.glob("puffer_phc/*/__init__.py")} <= named


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(path):
    folders = ("puffer_phc", "scripts", "tests", "gymtorch")
    known = ["/" + module.relative_to(REPOSITORY).as_posix() for folder in folders for module in (REPOSITORY / folder).rglob("*.py")]
    for name in re.findall(r"[\w./]*\w\.py\b", path.read_text(encoding="utf-8")):
        assert any(module.endswith(f"/{name}") for module in known), name


def test_the_python_example_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_data").symlink_to(REPOSITORY / "sample_data")
    exec(example, {})
    assert (tmp_path / "walks.npz").exists()
