import io
import sys

import pytest

from puffer_phc.command_line import INTERRUPTED, USER_ERROR, again, run_main, say
from puffer_phc.errors import ConfigError
from puffer_phc.main import main


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
