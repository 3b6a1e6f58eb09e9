"""The policy that comes along: small, without traces of the machine that trained it, and able to walk."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from puffer_phc.commands.session import evaluated, open_session
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.motion.file import load_motion_file, save_motion_file
from puffer_phc.options import SHIPPED_POLICY, parse_options
from puffer_phc.resources import resource_root

PATH = resource_root() / SHIPPED_POLICY


def test_it_is_small_and_names_no_folder():
    assert PATH.stat().st_size < 4e6
    config = load_checkpoint(PATH).config
    values = [value for section in config.values() for value in section.values() if isinstance(value, str)]
    assert not [value for value in values if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()]


def test_it_walks(tmp_path):
    pytest.importorskip("mujoco", minversion="3.17")
    walk = [clip for clip in load_motion_file(resource_root() / "sample_data" / "deepmimic.npz") if clip.name == "walk"]
    save_motion_file(tmp_path / "walk.npz", walk)
    arguments = parse_options(["--mode", "eval", "-m", str(tmp_path / "walk.npz"), "--env.backend", "mujoco_cpu", "--train.device", "cpu"])
    with open_session(arguments) as session:
        result, *_ = evaluated(session, arguments)
    assert bool(result.strict_success.all())
