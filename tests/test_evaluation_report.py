"""The page about an evaluation: what it says is what the tables say, it needs no network, and it degrades where nothing can be drawn."""

import base64
import dataclasses
import re

import numpy as np
import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_library

from puffer_phc.config import EnvConfig
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import outcomes, read_motions, write_results
from puffer_phc.evaluate.trace import record
from puffer_phc.humanoid.skeleton import BODIES
from puffer_phc.report import charts
from puffer_phc.report.attempts import key_instants, motion_points
from puffer_phc.report.evaluation_report import Compared, Subject, evaluation_report
from puffer_phc.view.outline import Outline

MOTIONS = swaying_library(40, 60, 50)
NAMES = ("walk", "run <b>fast</b>", "</script>jump", "crawl")


def result(names=NAMES, strict=(85, 20, 50, 0), played=(85, 60, 30, 0)):
    """A strict success, a relaxed one, and two failures, the last without a single frame."""
    frames = torch.tensor([85, 60, 50, 40])
    errors = torch.tensor([[20.0, 15.0, 10.0, 5.0, 4.0], [60.0, 50.0, 30.0, 9.0, 8.0], [120.0, 90.0, 60.0, 20.0, 10.0], [torch.nan] * 5])
    played, strict = torch.tensor(played), torch.minimum(torch.tensor(strict), torch.tensor(played))
    bare = EvaluationResult(1.0 / 30.0, torch.arange(4), names, frames, played, strict, torch.zeros(4, 5, dtype=torch.float64))
    return dataclasses.replace(bare, error_sums=(errors.double() * bare.error_counts).nan_to_num(0.0))


class Limping(KinematicSimulator):
    def step(self, target):
        self.disturbance[:, 2] = 0.4
        super().step(target)


@pytest.fixture(scope="module")
def traces():
    simulator = Limping(2)
    return record(lambda observation, _: simulator.oracle(observation), simulator, MOTIONS, EnvConfig(), [0, 1])


@pytest.fixture
def other():
    """Another evaluation: it has lost the walk and won the run, and knows a clip that the first one does not."""
    names = ("walk", NAMES[1], "swim", "crawl")
    return Compared("earlier.pt", result(names, strict=(10, 60, 50, 0), played=(85, 60, 50, 0)))


def subject(traces=(), other=None):
    return Subject("runs/latest.pt", {"motions": "here & there.npz"}, result(), traces, other)


def test_outcomes():
    assert outcomes(result()) == ["strict", "relaxed", "failed", "failed"]


def test_a_table_that_was_written_is_read_back(tmp_path):
    written = write_results(result(), tmp_path)
    again = read_motions(written.by_motion, 1.0)
    assert again.names == NAMES
    assert again.summary() == pytest.approx(result().summary(), abs=2e-3, nan_ok=True)
    assert torch.equal(again.strict_success, result().strict_success)
    assert written.report.parent == tmp_path
    assert written.report.name.startswith("eval_report_") and written.report.suffix == ".html"


@pytest.mark.parametrize("content", ["", "motion_keys\tsuccess\nwalk\tTrue\n", None])
def test_a_table_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "some.tsv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"some\.tsv"):
        read_motions(path, 1.0)


def test_a_damaged_table_is_named(tmp_path):
    path = write_results(result(), tmp_path).by_motion
    path.write_text(path.read_text().replace("85", "eighty-five"))
    with pytest.raises(ConfigError, match=path.name):
        read_motions(path, 1.0)


def test_names_are_text_and_nothing_is_loaded_from_elsewhere(traces, other):
    page = evaluation_report(subject([traces[0]._replace(name=NAMES[2])], other))
    assert "run &lt;b&gt;fast&lt;/b&gt;" in page and "<b>fast" not in page
    assert "</script>jump" not in page and "<\\/script>jump" in page
    assert "here &amp; there.npz" in page
    addresses = re.findall(r"""(?:src|href)=["']?([^"'\s>]+)|url\(([^)]+)\)""", page)
    assert addresses
    assert all("".join(pair).startswith("data:") for pair in addresses)
    for image in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page):
        svg = base64.b64decode(image).decode()
        assert not re.findall(r"""href="(?!#|data:)""", svg)


def test_key_frames_surround_the_failure_or_the_largest_error(traces):
    (trace, _) = traces
    assert trace.strict_failure == 1
    assert key_instants(trace) == [0, 1, 10]
    near = trace._replace(pos=trace.ref_pos.clone())
    near.pos[35, :, 0] += 0.1
    assert key_instants(near) == [5, 20, 29, 35, len(near.pos) - 1]


def test_the_points_of_the_player_are_the_shapes_of_the_body(traces):
    trace, outline = traces[0], Outline()
    motion = motion_points(trace, outline, Outline(is_slim=True))
    points = np.frombuffer(base64.b64decode(motion["body"]), dtype="<i2").reshape(len(trace.pos), -1, 3) / 1000.0
    assert [(kind, count) for kind, _, _, count, _ in outline.describe()] == [
        (type(body.shape).__name__.lower(), {"Sphere": 1, "Capsule": 2, "Box": 8}[type(body.shape).__name__]) for body in BODIES
    ]
    kind, radius, first, count, _ = outline.describe()[0]
    assert (kind, count) == ("sphere", 1)
    assert radius == pytest.approx(BODIES[0].shape.radius, abs=1e-4)
    pelvis = (trace.pos[:, 0] - trace.ref_pos[0, 0] * torch.tensor([1.0, 1.0, 0.0])).numpy()
    np.testing.assert_allclose(points[:, first], pelvis, atol=6e-4)
    assert motion["errors"][1] == pytest.approx(400, abs=3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_where_nothing_can_be_drawn_the_page_says_so(traces, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    page = evaluation_report(subject(traces))
    assert "this machine can&#x27;t draw" in page
    assert "image/jpeg" not in page and "player-1" in page


SHOWN = "[...document.querySelectorAll('#clips tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent)"


def choose(kind):
    return (
        f"(() => {{ const box = document.getElementById('clips-kind'); box.value = {kind!r}; box.dispatchEvent(new Event('change')); }})()"
    )


def search(words):
    found = "document.getElementById('clips-search')"
    return f"(() => {{ const box = {found}; box.value = {words!r}; box.dispatchEvent(new Event('input')); }})()"


def click(heading):
    return f"[...document.querySelectorAll('#clips th')].find(th => th.textContent === {heading!r}).click()"


def test_the_median_stands_above_the_bars():
    """The y of SVG grows downwards."""
    svg = charts.error_histogram(np.array([10.0]), ["strict"]).decode()
    words = float(re.search(r'y="([\d.]+)"[^>]*>median', svg).group(1))
    bars = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: {charts.COLOURS["strict"]}"', svg)
    assert words < min(float(y) for bar in bars for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", bar))


def test_clips_are_counted_in_whole_numbers():
    """Numbers of the upright axis end where it stands; few clips would be divided."""
    svg = charts.error_difference(np.array([1.0]), np.array([2.0])).decode()
    counts = re.findall(r"<text[^>]*text-anchor: end[^>]*>([^<]*)", svg)
    assert counts and all(float(count).is_integer() and "." not in count for count in counts)


def test_in_a_browser_without_network_it_sorts_filters_and_moves(tmp_path, browser, traces, other):
    path = tmp_path / "report.html"
    path.write_text(evaluation_report(subject(traces, other)), encoding="utf-8")
    browser.call("Network.enable")
    browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    browser.call("Page.navigate", url=path.as_uri())
    browser.wait_for("document.getElementById('clips-count')?.textContent === '4 of 4 clips'")
    browser.wait_for("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    assert browser.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.scroll'))"), "all columns are in sight"

    worst_first = browser.evaluate(SHOWN)
    assert worst_first == ["crawl", "</script>jump", NAMES[1], "walk"]
    browser.evaluate(click("clip"))
    assert browser.evaluate(SHOWN) == ["</script>jump", "crawl", NAMES[1], "walk"]
    browser.evaluate(click("position mm"))
    assert browser.evaluate(SHOWN) == ["</script>jump", NAMES[1], "walk", "crawl"]
    browser.evaluate(click("position mm"))
    assert browser.evaluate(SHOWN) == ["walk", NAMES[1], "</script>jump", "crawl"], "what has no figure stays last"

    browser.evaluate(choose("not-strict"))
    assert set(browser.evaluate(SHOWN)) == set(NAMES[1:])
    browser.evaluate(search("RA"))
    assert browser.evaluate(SHOWN) == ["crawl"]
    browser.evaluate(search(""))
    for kind, names in (("gained", ["walk"]), ("lost", [NAMES[1]]), ("alone", ["</script>jump"]), ("failed", ["</script>jump", "crawl"])):
        browser.evaluate(choose(kind))
        assert browser.evaluate(SHOWN) == names, kind

    frames = "[...document.querySelectorAll('.player input')].map(slider => Number(slider.value))"
    browser.evaluate("document.getElementById('player-1').scrollIntoView()")
    before = browser.evaluate(frames)
    browser.wait_for(f"{frames}[1] !== {before[1]}")
    browser.evaluate("document.querySelectorAll('.player button')[1].click()")
    stopped = browser.evaluate(frames)[1]
    browser.evaluate("new Promise(done => setTimeout(done, 300))")
    assert browser.evaluate(frames)[1] == stopped
    drawn = browser.evaluate("document.querySelectorAll('.player canvas')[1].toDataURL()")
    browser.evaluate(
        "(() => { const s = document.querySelectorAll('.player input')[1]; s.value = 3; s.dispatchEvent(new Event('input')); })()"
    )
    assert browser.evaluate("document.querySelectorAll('.player canvas')[1].toDataURL()") != drawn
    assert browser.errors == []
