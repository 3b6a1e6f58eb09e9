"""Swept options: there and back through the unit cube, rounding, and every wrong range refused by name before a run."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puffer_phc.commands.sweep import read_space
from puffer_phc.errors import ConfigError
from puffer_phc.options import parse_options
from puffer_phc.sweep.space import POWER_OF_TWO, Choice, Numeric, Space, parameter_from

REPOSITORY = Path(__file__).resolve().parent.parent
NUMBERS = {
    "uniform": Numeric("a", "uniform", -2.0, 6.0),
    "int_uniform": Numeric("a", "int_uniform", 1, 6, rounding=1),
    "log": Numeric("a", "log_uniform_values", 1e-5, 1e-2),
    "logit": Numeric("a", "logit", 0.1, 0.999),
    "multiples": Numeric("a", "int_uniform", 100, 1000, rounding=64),
    "powers": Numeric("a", "log_uniform_values", 1000, 70000, rounding=POWER_OF_TWO),
}


@pytest.mark.parametrize("name", NUMBERS)
@given(st.floats(0.0, 1.0))
def test_every_place_in_the_cube_is_a_value_that_leads_back_to_it(name, place):
    parameter = NUMBERS[name]
    value = parameter.decode([place])
    assert parameter.low <= value <= parameter.high
    again = parameter.encode(value)
    assert parameter.decode(again) == pytest.approx(value, rel=1e-9)
    if parameter.rounding is None:
        assert again[0] == pytest.approx(place, abs=1e-9)
    else:
        assert isinstance(value, int)


def test_distributions_are_even_in_their_own_measure():
    assert NUMBERS["log"].decode([0.5]) == pytest.approx(math.sqrt(1e-7))
    assert NUMBERS["uniform"].decode([0.25]) == 0.0
    middle = NUMBERS["logit"].decode([0.5])
    assert math.log(middle / (1 - middle)) == pytest.approx((math.log(0.1 / 0.9) + math.log(0.999 / 0.001)) / 2)


def test_rounding():
    assert [NUMBERS["powers"].decode([place]) for place in (0.0, 0.5, 1.0)] == [1024, 8192, 65536]
    assert [NUMBERS["multiples"].decode([place]) for place in (0.0, 0.5, 1.0)] == [128, 576, 960]
    assert [NUMBERS["int_uniform"].decode([place]) for place in (0.0, 0.29, 0.31, 1.0)] == [1, 2, 3, 6]


def test_values_with_an_order_share_an_axis_and_others_do_not():
    ordered, named = Choice("a", (16, 32, 64)), Choice("b", ("adaptive", "uniform", None))
    assert (ordered.width, named.width) == (1, 3)
    assert [ordered.encode(value) for value in (16, 32, 64)] == [[0.0], [0.5], [1.0]]
    assert named.encode("uniform") == [0.0, 1.0, 0.0]
    assert named.decode([0.2, 0.1, 0.9]) is None
    assert not Choice("c", (True, False)).is_ordered
    assert ordered.encode(48) == [0.75], "as of a run that ended between two lengths"


def test_a_space_puts_options_side_by_side():
    space = Space(
        [NUMBERS["uniform"], Choice("b", ("x", "y")), Numeric("c", "log_uniform_values", 1.0, 100.0, centre=10.0, scale=math.log(10.0))]
    )
    assert space.size == 4
    params = {"a": 2.0, "b": "y", "c": 10.0}
    assert torch.equal(space.encode(params), torch.tensor([0.5, 0.0, 1.0, 0.5], dtype=torch.float64))
    assert space.decode(space.encode(params)) == pytest.approx(params)
    assert space.centres.nan_to_num(-1.0).tolist() == [-1.0, -1.0, -1.0, 0.5]
    assert space.radius.tolist() == [0.5, 1.0, 1.0, 0.5]
    snapped = space.snapped(torch.tensor([[0.3, 0.7, 0.6, 1.4]], dtype=torch.float64))
    assert snapped[0].tolist() == pytest.approx([0.3, 1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("words", "kind", "named"),
    [
        ({}, float, "distribution"),
        ({"distribution": "normal", "min": "0", "max": "1"}, float, "normal"),
        ({"distribution": "uniform", "max": "1"}, float, "min is missing"),
        ({"distribution": "uniform", "min": "2", "max": "1"}, float, "min 2 is not below max 1"),
        ({"distribution": "uniform", "min": "nan", "max": "1"}, float, "finite"),
        ({"distribution": "uniform", "min": "one", "max": "2"}, float, "'one'"),
        ({"distribution": "log_uniform_values", "min": "0", "max": "1"}, float, "more than 0"),
        ({"distribution": "logit", "min": "0", "max": "0.5"}, float, "between 0 and 1"),
        ({"distribution": "logit", "min": "0.1", "max": "0.5"}, int, "whole number"),
        ({"distribution": "uniform", "min": "0", "max": "1", "centre": "2"}, float, "centre 2"),
        ({"distribution": "uniform", "min": "0", "max": "1", "scale": "0"}, float, "scale"),
        ({"distribution": "uniform", "min": "0", "max": "1", "values": "1 | 2"}, float, "'values' has no meaning"),
        ({"distribution": "int_uniform", "min": "1", "max": "6", "rounding": "0"}, int, "rounding is 0"),
        ({"distribution": "int_uniform", "min": "1", "max": "6", "rounding": "many"}, int, "'many'"),
        ({"distribution": "int_uniform", "min": "1.2", "max": "1.4"}, int, "one value"),
        ({"distribution": "values"}, float, "values is missing"),
        ({"distribution": "values", "values": "1"}, float, "at least two"),
        ({"distribution": "values", "values": "1 | 1.0"}, float, "twice"),
        ({"distribution": "values", "values": "1 | 2", "centre": "3"}, float, "none of the values"),
        ({"distribution": "uniform", "min": "0", "max": "1"}, str, "distribution = values"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(words, kind, named):
    with pytest.raises(ConfigError, match=named):
        parameter_from("a", words, kind, kind)


def space_of(tmp_path, text, *argv):
    path = tmp_path / "sweep.ini"
    path.write_text(text, encoding="utf-8")
    return read_space(parse_options(["--config", str(path), *argv]))


def test_an_ini_file_describes_a_space(tmp_path):
    text = (
        "[sweep.train.learning_rate]\ndistribution = log_uniform_values\nmin = 1e-5\nmax = 1e-2\ncentre = 3e-4\n"
        "[sweep.train.total_timesteps]\ndistribution = log_uniform_values\nmin = 1_000_000\nmax = 8_000_000  # a comment\n"
        "[sweep.policy.layer_sizes]\ndistribution = values\nvalues = 64 | 256 128 | auto\ncentre = 256 128\n"
        "[sweep.train.norm_adv]\ndistribution = values\nvalues = true | False\n"
    )
    rate, steps, sizes, normed = space_of(tmp_path, text).parameters
    assert (rate.low, rate.high, rate.centre, rate.rounding) == (1e-5, 1e-2, 3e-4, None)
    assert (steps.low, steps.high, steps.rounding) == (1e6, 8e6, 1)
    assert (sizes.values, sizes.centre) == (((64,), (256, 128), None), (256, 128))
    assert normed.values == (True, False)


@pytest.mark.parametrize(
    ("section", "words", "named"),
    [
        ("train.learning_rat", "", ["[sweep.train.learning_rat]", "did you mean train.learning_rate?"]),
        ("play.port", "", ["[sweep.play.port]", "base, env, policy, rnn, train"]),
        ("train.gamma", "distribution = uniform\nmin = 0.5\nmax = 1", ["[sweep.train.gamma]", "train.gamma is 1.0"]),
        ("train.device", "distribution = values\nvalues = cpu | cuda", ["[sweep.train.device]", "belongs to the sweep"]),
        ("env.sampler", "distribution = values\nvalues = adaptive | adaptiv", ["[sweep.env.sampler]", "adaptiv", "pmcp_soft"]),
        ("env.num_envs", "distribution = int_uniform\nmin = 0\nmax = 8", ["[sweep.env.num_envs]", "env.num_envs is 0"]),
    ],
)
def test_wrong_sections_are_refused_by_file_section_and_reason(tmp_path, section, words, named):
    with pytest.raises(ConfigError) as caught:
        space_of(tmp_path, f"[sweep.{section}]\n{words}\n")
    for fragment in (*named, "sweep.ini"):
        assert fragment in str(caught.value)


def test_nothing_to_sweep_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"sweep\.ini: there is nothing to sweep"):
        space_of(tmp_path, "[sweep]\nruns = 3\n")


@pytest.mark.parametrize("path", ["config.ini", "docs/sweep_samples.ini"])
def test_the_shipped_ranges_are_usable(path):
    space = read_space(parse_options(["--config", str(REPOSITORY / path)]))
    assert {"train.learning_rate", "train.total_timesteps"} <= {parameter.name for parameter in space.parameters}
