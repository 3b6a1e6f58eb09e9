"""Files appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from puffer_phc import files
from puffer_phc.errors import ConfigError
from puffer_phc.files import FolderLock, check_writable, check_writable_file, make_folder, whole_file


def test_the_file_appears_at_the_end_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "figures.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_what_stops_the_writer_leaves_the_old_file_and_nothing_else(tmp_path, stop):
    path = tmp_path / "figures.txt"
    path.write_text("old")
    with pytest.raises(stop), whole_file(path) as temporary:
        temporary.write_text("half")
        raise stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "new" / "folder"
    check_writable(folder)
    assert not list(tmp_path.iterdir())
    make_folder(folder)
    assert folder.is_dir()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_file_is_no_folder(tmp_path, inside):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"can't write to '.*taken.*': '.*taken' is not a folder"):
        make_folder(tmp_path / "taken" / inside)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"can't write to '.*': Permission denied"):
        make_folder(tmp_path)


def test_where_a_file_can_be_put(tmp_path):
    (tmp_path / "old.txt").write_text("old")
    for name in ("new.txt", "old.txt"):
        check_writable_file(tmp_path / name)
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "a" / "b", "does not exist"), (tmp_path / "old.txt" / "b", "not a folder")):
        with pytest.raises(ConfigError, match=reason):
            check_writable_file(path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


def test_a_locked_folder_is_closed_to_other_processes_until_it_is_released(tmp_path):
    code = "import sys; from pathlib import Path; from puffer_phc.files import FolderLock; FolderLock(Path(sys.argv[1]), 'in use')"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def other():
        return subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)

    with FolderLock(tmp_path, "mine"):
        assert "ConfigError: in use" in other().stderr
    assert other().returncode == 0


def test_where_the_file_system_knows_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files, "_lock", unable)
    with FolderLock(tmp_path, "mine"):
        pass


def test_a_lock_is_not_made_through_a_link(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"can't write to '.*lock'"):
        FolderLock(tmp_path, "mine")
    assert not (tmp_path / "elsewhere").exists()
