"""Options: ranges, sizes that divide, config.ini beside the defaults, and no option without effect."""

import ast
import dataclasses
import math
import typing
from pathlib import Path

import pytest
import torch

from puffer_phc.config import BaseConfig, Config, EnvConfig, EvalConfig, PolicyConfig, TrainConfig
from puffer_phc.errors import BackendError, ConfigError, PhcError
from puffer_phc.option_words import option_types, parse_values, read_ini
from puffer_phc.options import dotted
from puffer_phc.resolve import choose_device, resolve

REPOSITORY = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def test_config_ini_lists_every_option_with_its_default():
    assert parse_values(read_ini(REPOSITORY / "config.ini")) == dotted(Config())


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (EnvConfig, "num_envs", 0),
        (EnvConfig, "num_envs", -3),
        (EnvConfig, "substeps", 0),
        (EnvConfig, "physics_rate", 0.0),
        (EnvConfig, "kp_scale", -1.0),
        (EnvConfig, "torque_limit", math.nan),
        (EnvConfig, "termination_distance", 0.0),
        (EnvConfig, "sampler_floor", 1.5),
        (EnvConfig, "backend", "bullet"),
        (EnvConfig, "action_mode", "relative"),
        (EnvConfig, "rew_power_coef", math.inf),
        (PolicyConfig, "layer_sizes", (512, 0)),
        (PolicyConfig, "hidden_size", 0),
        (TrainConfig, "seed", -1),
        (TrainConfig, "seed", 2**63),
        (TrainConfig, "gamma", 1.0),
        (TrainConfig, "gae_lambda", -0.1),
        (TrainConfig, "learning_rate", 0.0),
        (TrainConfig, "batch_size", 0),
        (TrainConfig, "update_epochs", 0),
        (TrainConfig, "eval_interval", -1),
        (TrainConfig, "precision", "fp8"),
        (EvalConfig, "num_envs", 0),
        (BaseConfig, "env_name", "../run"),
        (BaseConfig, "env_name", ""),
        (BaseConfig, "env_name", "two\nlines"),
    ],
)
def test_values_out_of_range_are_refused_by_name(section, name, value):
    with pytest.raises(ConfigError, match=name):
        section(**{name: value})


def test_the_batch_error_names_both_numbers():
    config = Config(env=EnvConfig(num_envs=4000), train=TrainConfig(batch_size=131072))
    with pytest.raises(ConfigError) as caught:
        resolve(config, CPU)
    assert str(caught.value) == ("train.batch_size 131072 is not a multiple of env.num_envs × train.bptt_horizon = 4000 × 8 = 32000")


@pytest.mark.parametrize(("batch", "minibatch", "named"), [(4096, 1000, "1000"), (4096, 4, "4")])
def test_minibatches_must_divide_the_batch_and_hold_whole_segments(batch, minibatch, named):
    config = Config(env=EnvConfig(num_envs=64), train=TrainConfig(batch_size=batch, minibatch_size=minibatch))
    with pytest.raises(ConfigError, match=f"minibatch_size {named}"):
        resolve(config, CPU)


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("num_envs", [None, 1, 3, 64, 100, 333, 5000, 20000])
@pytest.mark.parametrize("horizon", [1, 7, 8])
def test_automatic_sizes_divide_whatever_the_number_of_environments(device, num_envs, horizon):
    config = resolve(Config(env=EnvConfig(num_envs=num_envs), train=TrainConfig(bptt_horizon=horizon)), device)
    train, env = config.train, config.env
    assert env.num_envs == (num_envs or env.num_envs)
    assert train.batch_size % (env.num_envs * horizon) == 0
    assert train.batch_size % train.minibatch_size == 0
    assert train.minibatch_size % horizon == 0


def test_resolve_leaves_nothing_automatic_but_what_it_names():
    for device in (CPU, CUDA):
        values = dotted(resolve(Config(), device))
        left = {name for name, value in values.items() if value in (None, "auto")}
        settled_by_mode = {"play.viewer", "play.clip", "play.num_envs", "video.path", "sweep.workers", "sweep.initial_runs"}
        assert left == {"env.action_scale", "env.hard_clips", "eval.compare", "policy.final_log_std"} | settled_by_mode


def test_a_gpu_gets_the_fast_backend_and_large_sizes():
    config = resolve(Config(), CUDA)
    assert (config.env.backend, config.env.num_envs, config.train.batch_size, config.train.minibatch_size) == (
        "mujoco_warp",
        8192,
        131072,
        32768,
    )
    assert config.policy.layer_sizes == (2048, 1536, 1024, 1024, 512)


@pytest.mark.parametrize(("has_triton", "compiler", "expected"), [(True, "gcc", True), (True, None, False), (False, "gcc", False)])
def test_nobody_needs_a_compiler(monkeypatch, has_triton, compiler, expected):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("puffer_phc.resolve.find_spec", lambda name: object() if has_triton else None)
    monkeypatch.setattr("puffer_phc.resolve.shutil.which", lambda name: f"/usr/bin/{name}" if name == compiler else None)
    assert resolve(Config(), CUDA).train.compile is expected
    assert resolve(Config(train=TrainConfig(compile=True)), CUDA).train.compile
    assert not resolve(Config(), CPU).train.compile


def test_resolving_twice_changes_nothing():
    once = resolve(Config(), CPU)
    assert resolve(once, CPU) == once


@pytest.mark.parametrize(
    ("backend", "device", "kind"),
    [
        ("mujoco_warp", "cpu", BackendError),
        ("mujoco_cpu", "cuda:99", PhcError),
        ("auto", "tpu", ConfigError),
        ("auto", "meta", ConfigError),
    ],
)
def test_devices_that_cannot_be_used_are_refused(backend, device, kind):
    with pytest.raises(kind):
        choose_device(Config(env=EnvConfig(backend=backend), train=TrainConfig(device=device)))


@pytest.fixture
def gpu_without_warp(monkeypatch):
    """A CUDA device, as far as torch is asked, and no engine for it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("puffer_phc.resolve.find_spec", lambda name: None)


def test_a_gpu_without_its_engine_is_left_alone_and_a_line_says_what_to_install(gpu_without_warp, caplog):
    assert choose_device(Config()) == CPU
    (record,) = caplog.records
    assert "pip install 'mujoco-warp" in record.getMessage()
    assert "\n" not in record.getMessage()
    caplog.clear()
    assert choose_device(Config(env=EnvConfig(backend="mujoco_cpu"))) == CPU
    assert not caplog.records


def test_a_gpu_that_was_asked_for_without_its_engine_is_an_error_that_says_what_to_install(gpu_without_warp):
    with pytest.raises(BackendError, match=r"train\.device is 'cuda', but the engine for it is not installed; pip install 'mujoco-warp"):
        choose_device(Config(train=TrainConfig(device="cuda")))


def test_a_gpu_with_its_engine_is_taken(gpu_without_warp, monkeypatch, caplog):
    monkeypatch.setattr("puffer_phc.resolve.find_spec", lambda name: object())
    assert choose_device(Config()) == CUDA
    assert not caplog.records


def test_the_cpu_backend_chooses_the_cpu():
    assert choose_device(Config(env=EnvConfig(backend="mujoco_cpu"))) == CPU


def test_every_option_has_a_help_text():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (REPOSITORY / "puffer_phc" / "config").glob("*.py")]
    sections = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "Config"}
    assert set(sections) == {section.__name__ for section in typing.get_type_hints(Config).values()}
    for definition in sections.values():
        for statement, after in zip(definition.body, [*definition.body[1:], None]):
            if isinstance(statement, ast.AnnAssign):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
                assert is_text, f"{definition.name}.{ast.unparse(statement.target)} has no docstring"


def test_every_option_is_read_somewhere():
    own_files = {"options.py", "resolve.py"}
    read = set()
    for path in (REPOSITORY / "puffer_phc").rglob("*.py"):
        if path.name not in own_files and path.parent.name != "config":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            read |= {(owner(node), node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    consumed_by_resolve = {"train.device"}
    unread = []
    for name in option_types():
        section, _, key = name.partition(".")
        owners = {section, "config", "_config", "options", "_options"}
        if key and name not in consumed_by_resolve and not any((possible, key) in read for possible in owners):
            unread.append(name)
    assert not unread, f"options without effect: {unread}"


def owner(node):
    """The last name before an attribute: of ``session.config.env.seed`` it is env."""
    return getattr(node.value, "attr", getattr(node.value, "id", None))


def test_sections_are_frozen():
    for section in typing.get_type_hints(Config).values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section(), dataclasses.fields(section)[0].name, "x")
