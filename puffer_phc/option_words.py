"""Options as a person writes them: their names are checked first, then their words become values.

INI keys and flags are the same names (``[env] num_envs`` is ``--env.num_envs`` or ``--env.num-envs``; the keys of ``[base]`` and the
options of ``Arguments`` need no section) and go through the same parser, so that a typo in either is an error that names the nearest
option.
"""

import configparser
import dataclasses
import difflib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import tyro
from typing_extensions import Literal
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo, UnsupportedTypeAnnotationError

from puffer_phc.config import Config
from puffer_phc.errors import ConfigError

ALIASES = {"m": "env.motion_file", "motion_file": "env.motion_file", "c": "checkpoint_path", "viewer": "play.viewer"}
"""Short names on the command line."""

SWEPT = "sweep."
"""What sections about swept options begin with, before the option's dotted name."""

SWEPT_SECTIONS = ("base", "env", "policy", "rnn", "train")
"""Sections whose options can be swept."""


@dataclass(frozen=True)
class Arguments(Config):
    """A physics humanoid learns to imitate human motion capture.

    The options with a dot stand in config.ini under the section before the dot; the others are for the command line.
    """

    mode: Literal["train", "eval", "play", "sweep"] = "train"
    """What to do."""
    checkpoint_path: Optional[Path] = None
    """Policy to start from (short: -c): eval and play show it, train goes on from its weights. A file, a run's folder (its last
    checkpoint) or a folder of runs (the last run's). It brings along base.policy_name, [policy], [rnn] and what of [env] changes what a
    policy sees or does (physics, drives, actions, observations); not the motions, the rewards, env.use_amp_obs, env.use_add_obs and their
    discriminator, nor the options and the state of training: --resume does."""
    resume: Optional[Path] = None
    """Folder of a run to go on with, from its last checkpoint and with its options, in the same folder."""
    config: Optional[Path] = None
    """INI file with options; auto: the config.ini that comes with the project."""
    output: Path = Path()
    """Folder for the files that eval and play write."""
    track: bool = False
    """Log to Weights & Biases (works offline; needs the wandb extra)."""
    wandb_project: str = "puffer-phc"
    """Its project."""
    tensorboard: bool = False
    """Log to TensorBoard, into the run's folder (needs the tensorboard extra)."""
    debug: bool = False
    """Show where an error came from."""

    def sections(self) -> Config:
        """The part that config.ini, runs and checkpoints share."""
        return Config(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Config)})


class Given(NamedTuple):
    """One option as a user wrote it."""

    words: List[str]
    where: str
    """How an error message names its place."""


def option_types() -> Dict[str, Any]:
    """Every option's dotted name with its type, sections first."""
    types = dict(typing.get_type_hints(Arguments))
    for section, section_class in typing.get_type_hints(Config).items():
        del types[section]
        types.update({f"{section}.{name}": hint for name, hint in typing.get_type_hints(section_class).items()})
    return types


def read_command_line(argv: Sequence[str]) -> Dict[str, Given]:
    """The options of a command line by dotted name. Raises ConfigError for an unknown one, with the nearest that exists."""
    types = option_types()
    given: Dict[str, Given] = {}
    name = None
    for token in argv:
        if _is_flag(token):
            flag, equals, value = token.partition("=")
            name = _named(flag, types)
            given[name] = Given([value] if equals else [], flag)
        elif name is None:
            raise ConfigError(f"command line: unexpected {token!r}; options start with --, see --help")
        else:
            given[name].words.append(token)
    return given


def _is_flag(token: str) -> bool:
    return token.startswith("--") or (len(token) > 1 and token[0] == "-" and token[1].isalpha())


def _named(flag: str, types: Mapping[str, Any]) -> str:
    written = flag.lstrip("-").replace("-", "_")
    for name in (written, ALIASES.get(written, ""), f"base.{written}"):
        if name in types:
            return name
    raise ConfigError(f"command line: unknown option {flag}{_nearest(written, list(types), '--')}")


def _nearest(written: str, choices: Sequence[str], prefix: str = "") -> str:
    """The end of an error message: what was probably meant, by the whole name or by the part after the section."""
    last_parts = {choice.rsplit(".", 1)[-1]: choice for choice in choices}
    matches = difflib.get_close_matches(written, choices, n=1, cutoff=0.7)
    matches += [last_parts[part] for part in difflib.get_close_matches(written.rsplit(".", 1)[-1], list(last_parts), n=1)]
    return f"; did you mean {prefix}{matches[0]}?" if matches else f"; there are {', '.join(choices)}"


def read_ini(path: Path) -> Dict[str, Given]:
    """The options of an INI file by dotted name.

    Raises ConfigError for a file that can't be read and for an unknown section or key, naming file, section and the nearest one.
    """
    ini = _parsed(path)
    types, sections = option_types(), list(typing.get_type_hints(Config))
    given = {}
    for section in ini.sections():
        if section.startswith(SWEPT):
            _check_swept(section, path)
            continue
        if section not in sections:
            raise ConfigError(f"{path}: unknown section [{section}]{_nearest(section, sections)}")
        keys = [name.partition(".")[2] for name in types if name.startswith(f"{section}.")]
        for key, value in ini.items(section):
            if key not in keys:
                raise ConfigError(f"{path}: unknown option {key!r} in [{section}]{_nearest(key, keys)}")
            given[f"{section}.{key}"] = Given([value], f"{path}: {section}.{key}")
    return given


def _parsed(path: Path) -> configparser.ConfigParser:
    ini = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"), default_section="")
    try:
        ini.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config file '{path}' can't be read: {getattr(error, 'strerror', None) or error}") from error
    except configparser.Error as error:
        raise ConfigError(f"config file: {' '.join(str(error).split())}") from error
    return ini


def _check_swept(section: str, path: Path) -> None:
    """Raise ConfigError where a section about a swept option names none."""
    name = section[len(SWEPT) :]
    names = [known for known in option_types() if known.partition(".")[0] in SWEPT_SECTIONS and "." in known]
    if name not in names:
        raise ConfigError(f"{path}: section [{section}] names no option of {', '.join(SWEPT_SECTIONS)}{_nearest(name, names)}")


def read_swept(path: Path) -> Dict[str, Dict[str, str]]:
    """What an INI file says about each swept option, by dotted name: the keys and words of its section [sweep.<section>.<option>]."""
    ini = _parsed(path)
    return {section[len(SWEPT) :]: dict(ini.items(section)) for section in ini.sections() if section.startswith(SWEPT)}


def words_of(name: str, value: Any) -> List[str]:
    """The option ``name`` with this value on a command line."""
    with _registry():
        spec = _spec(option_types()[name])
    return [f"--{name}", *spec.str_from_instance(value)]


def parse_values(given: Mapping[str, Given]) -> Dict[str, Any]:
    """The given options as values of their fields' types. Raises ConfigError for the first that is none."""
    types = option_types()
    return {name: _value(option, types[name]) for name, option in given.items()}


def _value(option: Given, field_type: Any) -> Any:
    with _registry():
        spec = _spec(field_type)
    words = [word for word in option.words if word]
    if spec.nargs == "*":
        words = " ".join(words).strip("()[]").replace(",", " ").split()
    elif field_type is bool:
        words = [word.capitalize() for word in words] or ["True"]
    if not words or (len(words) > 1 and spec.nargs == 1):
        raise ConfigError(f"{option.where}: needs {'a value' if not words else 'one value'}, got {' '.join(words) or 'none'}")
    try:
        if spec.choices and words[0] not in spec.choices:
            raise ValueError
        return spec.instance_from_str(words)
    except ValueError as error:
        expected = f"choose {', '.join(spec.choices)}" if spec.choices else f"expected {spec.metavar}"
        raise ConfigError(f"{option.where}: {' '.join(words)!r} is not usable; {expected}") from error


def _registry() -> ConstructorRegistry:
    """Tyro's types, and ``Optional`` fields read and shown as auto where they are None."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def optional(info: PrimitiveTypeInfo) -> Optional[PrimitiveConstructorSpec]:
        members = typing.get_args(info.type)
        if typing.get_origin(info.type) is not typing.Union or type(None) not in members:
            return None
        spec = _spec(members[0])
        return PrimitiveConstructorSpec(
            nargs=spec.nargs,
            metavar=f"auto|{spec.metavar}",
            instance_from_str=lambda words: None if words == ["auto"] else spec.instance_from_str(words),
            is_instance=lambda value: value is None or spec.is_instance(value),
            str_from_instance=lambda value: ["auto"] if value is None else spec.str_from_instance(value),
        )

    return registry


def _spec(field_type: Any) -> PrimitiveConstructorSpec:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(field_type, {tyro.conf.FlagConversionOff}))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        raise spec
    return spec


def print_help(arguments: Arguments) -> None:
    """Print every option with its effective value and end the process with exit code 0."""
    tyro.cli(
        Arguments,
        prog="puffer-phc",
        args=["--help"],
        default=arguments,
        registry=_registry(),
        config=(tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )
