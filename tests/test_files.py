"""Files appear whole or not at all."""

import pytest

from puffer_phc.files import whole_file


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
