"""MuJoCo's window on a display of its own: opens, obeys every key, shows the lists, closes without a complaint of the display."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from puffer_phc.command_line import INTERRUPTED

TESTS = Path(__file__).resolve().parent

SCRIPT = """
import sys
from pathlib import Path
from playing import small_session
from puffer_phc.view.commands import COMMANDS
from puffer_phc.view.native import Window, key_commands

session = small_session(Path(sys.argv[1]))
window = Window(session)
assert set(key_commands().values()) == {entry.name for entry in COMMANDS if entry.key}
for code, name in key_commands().items():
    before = session.settings
    if name not in ("recording", "quit"):
        window.press(code)
        session.advance(0.04)
        window.draw(0.04)
    kind = next(entry.kind for entry in COMMANDS if entry.name == name)
    assert kind != "toggle" or name == "recording" or getattr(session.settings, name) != getattr(before, name), name
assert window.handle.user_scn.ngeom > 0
assert session.camera is not None
assert all(len(block) < 500 for text in window.texts() for block in text[2:])
window.press(256)
window.run()
assert session.is_over
window.close()
session.close()
print("closed")
"""

INTERRUPTED_PLAY = """
import os, signal, sys
from puffer_phc.main import main
from puffer_phc.view.native import Window

draw, pictures = Window.draw, []

def draw_and_interrupt(window, seconds):
    draw(window, seconds)
    pictures.append(seconds)
    if len(pictures) == 3:
        os.kill(os.getpid(), signal.SIGINT)

Window.draw = draw_and_interrupt
sys.exit(main(sys.argv[1:]))
"""
"""The play mode, and Ctrl-C at its third picture."""


@pytest.fixture
def display():
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb here")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(timeout=10)


def test_ctrl_c_closes_the_window(display, tmp_path):
    environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERRUPTED_PLAY, "--mode", "play", "--viewer", "native", "--env.backend", "mujoco_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == INTERRUPTED, done.stderr
    assert done.stderr == "interrupted\n"


def test_the_window_obeys_every_key_and_closes_quietly(display, tmp_path):
    environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1:] == ["closed"]
    assert "X Error" not in done.stderr
