"""What a person can do while watching: one table that the window's keys, the page's widgets and the tests are made from."""

from typing import NamedTuple, Tuple

from typing_extensions import Literal

Kind = Literal["action", "toggle", "number", "choice"]


class Command(NamedTuple):
    """One thing to do; front ends post its name to the session, toggles, numbers and choices with a value."""

    name: str
    """As ``Session.post`` and, but for actions, the field of ``Settings`` know it."""
    kind: Kind
    key: str
    """On the keyboard, in capitals; empty where there is none. Keys by which viser or a browser moves the view are left alone."""
    label: str
    """On a button or beside a box."""
    help: str


SPEEDS: Tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Playing speeds relative to real time."""

COMMANDS: Tuple[Command, ...] = (
    Command("paused", "toggle", "SPACE", "Pause", "pause or go on"),
    Command("step", "action", "I", "Step", "one control step, then pause"),
    Command("slower", "action", "Z", "Slower", "play slower"),
    Command("faster", "action", "X", "Faster", "play faster"),
    Command("speed", "number", "", "Speed", "speed relative to real time"),
    Command("reset", "action", "R", "Start over", "every humanoid back to the start of its clip"),
    Command("previous_clip", "action", "B", "Previous clip", "the clip before, for every humanoid"),
    Command("next_clip", "action", "N", "Next clip", "the clip after, for every humanoid"),
    Command("shuffle", "action", "T", "Other clips", "clips drawn at random"),
    Command("clip", "choice", "", "Clip", "one clip for all, or all clips in turn"),
    Command("previous_humanoid", "action", "G", "Previous humanoid", "look at the humanoid before"),
    Command("next_humanoid", "action", "H", "Next humanoid", "look at the humanoid after"),
    Command("humanoid", "number", "", "Humanoid", "the humanoid that is looked at"),
    Command("follow", "toggle", "F", "Follow", "the camera follows that humanoid"),
    Command("reference", "toggle", "K", "Reference", "show or hide the translucent reference"),
    Command("beside", "toggle", "Y", "Side by side", "reference beside the humanoid or over it"),
    Command("markers", "toggle", "M", "Markers", "dots where the bodies should be one step later"),
    Command("colours", "action", "O", "Other colours", "colour the humanoids differently"),
    Command("drawing", "toggle", "V", "Draw", "draw, or only simulate"),
    Command("push", "action", "J", "Push", "push every humanoid"),
    Command("sampled", "toggle", "1", "Explore", "actions with exploration noise, or their mean"),
    Command("newer_checkpoint", "action", "U", "Newer checkpoint", "take the newest checkpoint of the run's folder"),
    Command("recording", "toggle", "L", "Record", "record a video, or finish it"),
    Command("cancel_recording", "action", "BACKSPACE", "Discard recording", "stop recording and keep no file"),
    Command("progress", "action", "2", "List humanoids", "write every humanoid's clip, time and error to the terminal"),
    Command("camera", "action", "C", "Print camera", "write the camera's place to the terminal"),
    Command("quit", "action", "ESCAPE", "Quit", "end playing"),
)


def command(name: str) -> Command:
    """The command of that name."""
    return next(entry for entry in COMMANDS if entry.name == name)


def key_table() -> Tuple[Tuple[str, str], ...]:
    """(key, what it does) of every command that has one."""
    return tuple((entry.key, entry.help) for entry in COMMANDS if entry.key)
