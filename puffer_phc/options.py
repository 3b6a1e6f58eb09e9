"""Options from everywhere: defaults, then config.ini, then what a checkpoint says, then the command line; the later one wins.

Relative paths of an INI file count from its folder, those of the command line from where the user stands.
"""

import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from puffer_phc.config import Config
from puffer_phc.errors import ConfigError
from puffer_phc.files import is_there
from puffer_phc.option_words import Arguments, option_types, parse_values, print_help, read_command_line, read_ini
from puffer_phc.resources import is_installed, resource_root

if TYPE_CHECKING:
    from puffer_phc.learn.checkpoint import Checkpoint

SHIPPED_POLICY = Path("sample_data") / "policy.pt"
"""What is played and evaluated where no checkpoint is named, in the folder of config.ini."""

POLICY_ENV_FIELDS = (
    "physics_rate",
    "substeps",
    "integrator",
    "solver_iterations",
    "has_self_collision",
    "kp_scale",
    "kd_scale",
    "torque_limit",
    "action_mode",
    "action_scale",
    "velocity_lead",
    "freeze_hand",
    "freeze_toe",
    "num_future_frames",
)
"""The [env] fields that change what a policy sees or does; a checkpoint brings them along."""


@dataclass(frozen=True)
class Parsed(Arguments):
    """All options, and what they name that had to be read to know them."""

    checkpoint: "Optional[Checkpoint]" = None
    """The content of ``checkpoint_path``."""
    given: FrozenSet[str] = frozenset()
    """Names of the options that the command line gives."""


def parse_options(argv: Sequence[str]) -> Parsed:
    """Every option with its effective value; prints the help and exits where ``argv`` asks for it.

    Raises ConfigError for names, values and files that are not usable, CheckpointError for a checkpoint that can't be read.
    """
    wants_help = any(token in ("-h", "--help") for token in argv)
    command_line = read_command_line([token for token in argv if token not in ("-h", "--help")])
    own = parse_values(command_line)
    is_unnamed = not (own.get("checkpoint_path") or own.get("resume"))
    if own.get("mode") in ("play", "eval") and is_unnamed and (resource_root() / SHIPPED_POLICY).is_file():
        own["checkpoint_path"] = resource_root() / SHIPPED_POLICY
    ini = ini_file(own.get("config"))
    values = absolute(dotted(Config()), resource_root())
    values.update(absolute(parse_values(read_ini(ini)), ini.parent))
    if own.get("resume") and own.get("checkpoint_path"):
        raise ConfigError("command line: --resume goes on from the run's own checkpoint, -c starts a new run from a checkpoint; give one")
    checkpoint = None
    if own.get("resume") or own.get("checkpoint_path"):
        own["checkpoint_path"], checkpoint = named_checkpoint(own.get("checkpoint_path"), own.get("resume"))
        values.update(checkpoint_values(checkpoint.config, whole=bool(own.get("resume"))))
    values.update(absolute(own, Path.cwd()))
    arguments = assemble(values)
    if wants_help:
        print_help(arguments)
    return Parsed(**vars(arguments), checkpoint=checkpoint, given=frozenset(own))


def ini_file(named: Optional[Path]) -> Path:
    """The INI file that holds: the one that is ``named``, else the project's own."""
    return Path.cwd() / named if named else resource_root() / "config.ini"


def dotted(config: Config) -> Dict[str, Any]:
    """The values of all sections by dotted name."""
    return {f"{section}.{name}": value for section, values in dataclasses.asdict(config).items() for name, value in values.items()}


def absolute(values: Mapping[str, Any], folder: Path) -> Dict[str, Any]:
    """``values`` with relative paths counted from ``folder``.

    An installed package keeps its inputs inside itself but writes where the user stands.
    """
    anchored = dict(values)
    for name in ("env.motion_file", "env.hard_clips", "train.data_dir", "video.path", "eval.compare"):
        if values.get(name) is not None:
            own_folder = is_installed() and folder == resource_root()
            anchored[name] = str((Path.cwd() if name != "env.motion_file" and own_folder else folder) / values[name])
    return anchored


def named_checkpoint(path: Optional[Path], run_dir: Optional[Path]) -> "Tuple[Path, Checkpoint]":
    """The checkpoint at ``path``, a file or a folder of runs, or the one to go on from in a run's folder."""
    from puffer_phc.learn.checkpoint import load_checkpoint  # torch is slow to load, and most command lines name none
    from puffer_phc.learn.run_folder import load_newest, newest_run

    if run_dir is not None:
        return load_newest(Path.cwd() / run_dir)
    assert path is not None, "one of the two is named"
    whole = Path.cwd() / path
    return load_newest(newest_run(whole)) if is_there(whole) and whole.is_dir() else (path, load_checkpoint(whole))


def checkpoint_values(saved: Mapping[str, Mapping[str, Any]], whole: bool = False) -> Dict[str, Any]:
    """What the options of a checkpoint say about its policy: its sections and name, and ``POLICY_ENV_FIELDS``; never paths or sizes.

    ``whole``: everything that they say, to go on with its run.
    """
    known = [name for name in option_types() if name.startswith(("policy.", "rnn.")) or name == "base.policy_name"]
    known += [f"env.{name}" for name in POLICY_ENV_FIELDS]
    known = [name for name in option_types() if "." in name] if whole else known
    values = {}
    for name in known:
        section, _, key = name.partition(".")
        if key in saved.get(section, {}):
            value = saved[section][key]
            values[name] = tuple(value) if isinstance(value, list) else value
    return values


def with_policy_of(config: Config, saved: Mapping[str, Mapping[str, Any]]) -> Config:
    """``config`` with what the options ``saved`` in a checkpoint say about its policy."""
    return assemble({**dotted(config), **checkpoint_values(saved)}).sections()


def assemble(values: Mapping[str, Any]) -> Arguments:
    """The dataclasses that ``values`` (by dotted name) fill; their own checks raise ConfigError."""
    sections = {}
    for section, section_class in typing.get_type_hints(Config).items():
        prefix = f"{section}."
        sections[section] = section_class(**{name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)})
    return Arguments(**sections, **{name: value for name, value in values.items() if "." not in name})
