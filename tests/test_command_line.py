import pytest

from puffer_phc.command_line import INTERRUPTED, USER_ERROR, run_main
from puffer_phc.errors import ConfigError


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
