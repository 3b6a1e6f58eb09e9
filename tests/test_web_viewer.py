"""The page: every widget and key, moved by a client of its websocket and by a real browser, changes the session and nothing else."""

import socket
import threading
import time
import urllib.request

import msgspec
import pytest
import torch
import viser
from playing import small_session
from websockets.sync.client import connect

from puffer_phc.addresses import check_port, page_url
from puffer_phc.errors import ConfigError
from puffer_phc.view.commands import COMMANDS, command
from puffer_phc.view.scene import Focus, stage
from puffer_phc.view.web import ALL_CLIPS, WebPage

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (3.0, 0.0, 1.0),
    "fov": 1.0,
    "near": 0.01,
    "far": 100.0,
    "image_height": 480,
    "image_width": 640,
    "look_at": (0.0, 0.0, 1.0),
    "up_direction": (0.0, 0.0, 1.0),
}


class RunningPage:
    """A page whose session plays in a thread, as under ``run``, until it is closed."""

    def __init__(self, folder):
        self.session = small_session(folder)
        self.posted = []
        post = self.session.post
        self.session.post = lambda name, value=None: (self.posted.append(name), post(name, value))
        self.page = WebPage(self.session, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self.page.run)
        self._thread.start()

    def wait(self, condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; posted: {self.posted}; {self.session.settings}"
            time.sleep(0.02)

    def close(self):
        self.session.is_over = True
        self._thread.join(timeout=20)
        self.page.close()
        self.session.close()


@pytest.fixture
def running(tmp_path):
    page = RunningPage(tmp_path)
    yield page
    page.close()


class Client:
    """A watcher that speaks viser's protocol."""

    def __init__(self, url):
        self._socket = connect(url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None)
        self.send(**CAMERA)

    def send(self, **message):
        self._socket.send(msgspec.msgpack.encode(message))

    def set(self, handle, value):
        self.send(type="GuiUpdateMessage", uuid=handle._impl.uuid, updates={"value": value})

    def close(self):
        self._socket.close()


@pytest.fixture
def client(running):
    watcher = Client(running.page.url)
    running.wait(lambda: running.page.server.get_clients())
    yield watcher
    watcher.close()


BY_SLIDER = {"slower", "faster", "previous_humanoid", "next_humanoid"}
"""Keys for what the sliders of speed and humanoid do."""


def test_every_command_but_those_by_slider_has_a_widget(running):
    assert {entry.name for entry in COMMANDS} - set(running.page.widgets) == BY_SLIDER


CHANGES = {"speed": 2.0, "clip": "sway_2", "humanoid": 3}


@pytest.mark.parametrize("name", ["paused", "sampled", "follow", "reference", "beside", "markers", "drawing", *CHANGES])
def test_a_widget_that_holds_a_value_sets_it(running, client, name):
    before = getattr(running.session.settings, name)
    value = CHANGES.get(name, not before)
    client.set(running.page.widgets[name], value)
    expected = value - 1 if name == "humanoid" else value
    running.wait(lambda: getattr(running.session.settings, name) == expected)
    client.set(running.page.widgets[name], ALL_CLIPS if name == "clip" else (before + 1 if name == "humanoid" else before))
    running.wait(lambda: getattr(running.session.settings, name) == before)
    assert set(running.posted) == {name}


@pytest.mark.parametrize("name", [entry.name for entry in COMMANDS if entry.kind == "action" and entry.name not in BY_SLIDER])
def test_a_button_posts_its_command(running, client, name):
    client.set(running.page.widgets[name], True)
    running.wait(lambda: name in running.posted)
    if name == "quit":
        running.wait(lambda: running.session.is_over)


def test_keys_are_registered_for_every_command_that_has_one(running):
    registered = {handle.label: handle.hotkey for handle in running.page.server.gui._command_handle_from_uuid.values()}
    assert set(registered) == {entry.label for entry in COMMANDS if entry.key and entry.key != "ESCAPE"}
    assert registered[command("reset").label] == "R"


def test_widgets_show_what_others_changed(running):
    running.session.post("paused", True)
    running.session.post("clip", "sway_1")
    running.session.post("next_humanoid")
    running.session.post("slower")
    widgets = running.page.widgets
    running.wait(lambda: widgets["paused"].value and widgets["clip"].value == "sway_1" and widgets["humanoid"].value == 2)
    running.wait(lambda: widgets["speed"].value == 0.5)


def test_the_status_tells_clip_time_and_error(running):
    running.wait(lambda: "sway_0" in running.page.status.content and "mm" in running.page.status.content)


def test_what_is_sent_is_where_the_bodies_are(tmp_path):
    """The last of the spheres that are sent lies on the last humanoid, in a world that is moved so that the focus is at the origin."""
    session = small_session(tmp_path)
    page = WebPage(session, "127.0.0.1", 0)
    session.step()
    page.draw(0.03)
    staged = stage(session.frame(), session.settings)
    point = Focus().move(staged.body_pos[:, 0], session.settings, 0.03)
    torch.testing.assert_close(torch.tensor(page.world.position).float(), -point, atol=1e-5, rtol=0.0)
    handle, part, _ = page.humanoids.batches[0]
    pelvis = part.bodies.tolist().index(0)
    sent = torch.tensor(handle.batched_positions).reshape(session.frame().num_humanoids, -1, 3)[:, pelvis]
    torch.testing.assert_close(sent, staged.body_pos[:, 0], atol=1e-5, rtol=0.0)
    page.close()
    session.close()


def test_the_page_is_served_on_loopback_only_unless_told(running):
    with urllib.request.urlopen(running.page.url) as answer:
        assert b"<html" in answer.read(2000).lower()
    assert running.page.url.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_an_error_and_not_another_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port}.*in use"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", 0)


def test_addresses_of_six_are_written_as_browsers_want_them():
    assert page_url("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert page_url("::1", 80) == "http://[::1]:80"


def button(label):
    """JavaScript that finds the button with this text."""
    return f"[...document.querySelectorAll('button')].find(b => b.innerText.startsWith({label!r}))"


def checkbox(label):
    """JavaScript that finds the box beside this text."""
    smallest = "(a, b) => a.innerText.length - b.innerText.length"
    rows = (
        f"[...document.querySelectorAll('div')].filter(d => d.innerText.startsWith({label!r}) && d.querySelector('input[type=checkbox]'))"
    )
    return f"{rows}.sort({smallest})[0].querySelector('input[type=checkbox]')"


def test_a_browser_shows_the_page_and_drives_every_widget(running, browser):
    session, widgets = running.session, running.page.widgets
    browser.call("Page.navigate", url=running.page.url)
    seconds = browser.wait_for("document.body && document.body.innerText.includes('Side by side')")
    assert seconds < 20.0, "a page that takes 3 s on two idle cores"
    for name in ("step", "reset", "push", "newer_checkpoint", "previous_clip", "next_clip", "shuffle", "colours", "progress", "camera"):
        browser.evaluate(f"{button(widgets[name].label)}.click()")
        running.wait(lambda name=name: name in running.posted)
    for name in ("paused", "sampled", "follow", "reference", "beside", "markers", "drawing"):
        wanted = not getattr(session.settings, name)
        browser.evaluate(f"{checkbox(widgets[name].label)}.click()")
        running.wait(lambda name=name, wanted=wanted: getattr(session.settings, name) == wanted)
    shift = session.settings.colour_shift
    browser.evaluate("document.activeElement.blur()")
    browser.key("o", "KeyO")
    running.wait(lambda: session.settings.colour_shift == shift + 1)
    browser.evaluate(f"{button('Quit')}.click()")
    running.wait(lambda: session.is_over)
    assert browser.errors == []
