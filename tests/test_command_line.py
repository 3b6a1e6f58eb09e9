import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from puffer_phc.command_line import INTERRUPTED, USER_ERROR, Aside, Terminal, again, run_main, say
from puffer_phc.errors import ConfigError
from puffer_phc.main import main
from puffer_phc.report.dashboard import PlainLog, Progress

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((REPOSITORY / "scripts").rglob("*.py"))


@pytest.fixture
def unread():
    """The end of a pipe that nobody reads from."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def raising(error):
    def work():
        raise error

    return work


def test_the_exit_code_is_that_of_the_work():
    assert run_main(lambda: 7) == 7


@pytest.mark.parametrize("error", [ConfigError("two\nlines"), FileNotFoundError(2, "two lines"), PermissionError("two lines")])
def test_what_the_user_can_mend_is_one_line(error, capsys):
    assert run_main(raising(error)) == USER_ERROR
    text = capsys.readouterr().err
    assert text.startswith("puffer-phc: ") and text.count("\n") == 1 and "two lines" in text


def test_debug_shows_where_it_happened():
    with pytest.raises(ConfigError):
        run_main(raising(ConfigError("no")), debug=True)


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(KeyError):
        run_main(raising(KeyError("no")))


def test_ctrl_c_ends_quietly(capsys):
    assert run_main(raising(KeyboardInterrupt())) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_going_on_takes_as_many_processes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "-m", "x.npz"])
    assert again(["--resume", "runs/a b"]) == "python scripts/train.py --resume 'runs/a b'"
    assert again(["--resume", "r"], num_processes=2) == "torchrun --nproc_per_node 2 scripts/train.py --resume r"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/puffer-phc"])
    assert again(["--resume", "r"], num_processes=4) == "torchrun --nproc_per_node 4 -m puffer_phc.start --resume r"


@pytest.mark.parametrize("mode", ["play", "sweep"])
def test_modes_that_are_one_process_are_refused_to_several(monkeypatch, capsys, mode):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--mode", mode]) == USER_ERROR
    assert f"--mode {mode} is one process; leave torchrun out, which is for train and eval" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "message"),
    [("2", "WORLD_SIZE is 2, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not there"), ("two", "WORLD_SIZE is 'two'")],
)
def test_an_environment_of_several_processes_without_torchrun_is_named(tmp_path, monkeypatch, capsys, said, message):
    monkeypatch.setenv("WORLD_SIZE", said)
    assert main(["--train.data_dir", str(tmp_path / "runs")]) == USER_ERROR
    assert message in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["walk · 3", "name \udcff.bvh"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_text_that_a_terminal_cannot_show_ends_no_program(monkeypatch, encoding, text):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)

    def work():
        say(text)
        return 0

    assert run_main(work) == 0
    shown = output.buffer.getvalue().decode(encoding).strip()
    assert shown == text.encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize("text", ["runs/:boom:/[bold]x[/] 7", "a/[/red].npz", "x" * 300])
def test_nothing_in_a_path_is_taken_for_a_colour_a_picture_or_a_place_to_break(capsys, text):
    say(text)
    assert capsys.readouterr().out == f"{text}\n"
    table = Table(title=text, show_header=False)
    table.add_row(text)
    Terminal(width=400).print(table)
    assert capsys.readouterr().out.count(text) == 2
    PlainLog(Console(force_terminal=False), text, Progress(1))
    assert capsys.readouterr().out == f"{text}\n"


def test_every_console_is_one_that_leaves_text_as_it_is():
    for path in [*(REPOSITORY / "puffer_phc").rglob("*.py"), *SCRIPTS]:
        for call in (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
            name, where = getattr(call.func, "id", getattr(call.func, "attr", "")), f"{path.name}:{call.lineno}"
            assert name not in ("Console", "get_console"), f"{where} is to use Terminal or Aside"
            assert name != "track" or any(keyword.arg == "console" for keyword in call.keywords), where


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("speak", [print, lambda text: Terminal().print(text)])
@pytest.mark.parametrize("holds_back", [True, False])
def test_text_that_nobody_reads_any_more_is_no_error(monkeypatch, capsys, unread, speak, holds_back):
    raw = os.fdopen(os.dup(unread), "wb", buffering=-1 if holds_back else 0)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, write_through=not holds_back))
    said = []

    def work():
        for number in range(100_000):
            speak(f"line {number}")
            said.append(number)
        return 7

    assert run_main(work) == 0
    assert len(said) < 100_000, "it went on speaking"
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_work_goes_on_where_nobody_reads_what_is_said_beside_it(monkeypatch, capsys, unread):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(os.fdopen(os.dup(unread), "wb")))
    aside = Aside()

    def work():
        for _ in range(3):
            aside.print("a line")
            say("another")
        return 7

    assert run_main(work) == 7
    assert capsys.readouterr().err == ""


def test_a_pipe_that_is_not_ours_is_an_error(capsys):
    assert run_main(raising(BrokenPipeError(32, "Broken pipe"))) == USER_ERROR
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("words", [["inspect_motions.py", "sample_data/deepmimic.npz"], ["vis_motion_mj.py", "--help"]])
def test_scripts_do_their_work_where_nobody_reads(tmp_path, unread, words):
    files = {"--tsv": tmp_path / "found.tsv", "--html": tmp_path / "found.html"} if "--help" not in words else {}
    command = [sys.executable, f"scripts/{words[0]}", *words[1:], *(str(word) for pair in files.items() for word in pair)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=unread, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(path.is_file() for path in files.values())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_speak_by_what_knows_readers_who_go(path):
    """``print`` and rich's own console end a program whose reader is gone, and so does a parser outside of ``run_main``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {"print", "Console"} & set(called)
    own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "main" in own:
        inside = [ast.unparse(node) for node in ast.walk(own["main"]) if isinstance(node, ast.Lambda)]
        parsed = [node for node in ast.walk(own["main"]) if isinstance(node, ast.Call) and ast.unparse(node.func) == "tyro.cli"]
        assert "run_main" in called
        assert len(parsed) == sum(text.count("tyro.cli(") for text in inside)
