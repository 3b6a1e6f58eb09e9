"""A web page that shows a session and steers it: viser on this machine's loopback address, or wherever ``play.host`` says."""

import contextlib
import io
import math
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc.addresses import page_url
from puffer_phc.errors import BackendError
from puffer_phc.view.commands import COMMANDS, SPEEDS, Command, command, key_table
from puffer_phc.view.meshes import unit_meshes
from puffer_phc.view.own_pages import check_guard, only_own_pages, own_names
from puffer_phc.view.scene import (
    MARKER_COLOUR,
    MARKER_RADIUS,
    REFERENCE_COLOUR,
    Focus,
    colours,
    simple_shapes,
    slim,
    stage,
)
from puffer_phc.view.session import CameraPlace, Frame, Session, Settings, play_at_pace
from puffer_phc.view.web_figures import Figures

PICTURES_PER_SECOND = 30.0
_STATUS_SECONDS = 0.25
_REFERENCE_OPACITY = 0.5
"""More than MuJoCo's: against a page's bright sky and floor the same figure is hardly there."""
_LABEL_HEIGHT = 1.15
"""m over the pelvis."""
ALL_CLIPS = "all in turn"
_KEYS = {"SPACE": "space", "BACKSPACE": "backspace"}
_FLOOR: Dict[str, Any] = {
    "cell_size": 0.5,
    "section_size": 1.0,
    "cell_color": (172, 178, 184),
    "section_color": (150, 157, 164),
    "plane_color": (186, 192, 198),
    "plane_opacity": 1.0,
    "shadow_opacity": 0.4,
    "fade_distance": 40.0,
}
_FOLDERS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("Play", ("paused", "step", "speed", "reset", "push", "sampled", "newer_checkpoint")),
    ("Clips", ("clip", "previous_clip", "next_clip", "shuffle")),
    ("Look", ("humanoid", "follow", "reference", "beside", "markers", "colours", "drawing")),
    ("Record", ("recording", "cancel_recording", "progress", "camera", "quit")),
)
"""Which widgets stand under which heading; the others are keys only."""


class WebPage:
    """The page of one session. ``run`` plays until somebody quits; every widget and key posts a command of ``COMMANDS``.

    ``server`` is viser's; ``status``, ``world`` and ``humanoids`` are what it shows.
    """

    def __init__(self, session: Session, host: str, port: int) -> None:
        try:
            import viser
        except ImportError as error:
            raise BackendError(f"the web page needs viser ({error}); run: pip install viser") from error
        self._session, self._host = session, host
        with contextlib.redirect_stdout(io.StringIO()), only_own_pages(own_names(host)):  # its greeting names the address, too
            self.server = viser.ViserServer(host=host, port=port, label="puffer-phc", verbose=False)
        check_guard(host, self.server.get_port())
        self._shown: Optional[Settings] = None
        self._focus = Focus()
        self._status_time = -1.0
        self.widgets: Dict[str, Any] = {}
        """Widgets by the name of their command."""
        self._build_scene(session.frame(), session.settings)
        self._build_widgets(session.frame().num_humanoids)

    @property
    def url(self) -> str:
        """Where to point a browser."""
        return page_url(self._host, self.server.get_port())

    def run(self) -> None:
        """Play and draw until the session is over."""
        play_at_pace(self._session, self.draw, PICTURES_PER_SECOND, lambda: True)

    def draw(self, seconds: float) -> None:
        """Show the present instant, ``seconds`` after the last picture."""
        settings = self._session.settings
        with self.server.atomic():
            self._show_settings(settings)
            if settings.drawing:
                self._show_frame(self._session.frame(), settings, seconds)
        self._status_time -= seconds
        if self._status_time < 0.0:
            self._status_time = _STATUS_SECONDS
            self._show_status()

    def close(self) -> None:
        """Stop serving."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def _build_scene(self, frame: Frame, settings: Settings) -> None:
        scene, count = self.server.scene, frame.num_humanoids
        scene.set_up_direction("+z")
        self.server.initial_camera.position = (3.0, -3.4, 2.0)
        self.server.initial_camera.fov = math.radians(50.0)
        self.server.initial_camera.look_at = (0.0, 0.0, 0.85)
        scene.configure_default_lights(enabled=False)
        scene.configure_environment_map(None)
        scene.add_light_hemisphere("/sky", sky_color=(235, 242, 250), ground_color=(120, 120, 115), intensity=1.1)
        scene.add_light_directional("/sun", intensity=1.5, cast_shadow=True, position=(-2.0, -2.6, 6.0))
        self.world = scene.add_frame("/world", show_axes=False)
        scene.add_grid("/world/floor", infinite_grid=True, **_FLOOR)
        shapes = simple_shapes()
        self._shades = shapes.shades
        self.humanoids = Figures(scene, "/world/humanoids", shapes, colours(count, shapes.shades, settings.colour_shift), None)
        green = torch.tensor(REFERENCE_COLOUR).expand(count, len(shapes.kinds), 3)
        self._references = Figures(scene, "/world/references", slim(shapes), green, _REFERENCE_OPACITY)
        self._markers = self._build_markers(frame)
        self._labels = [scene.add_label(f"/world/names/{index}", name, anchor="bottom-center") for index, name in enumerate(frame.clips)]

    def _build_markers(self, frame: Frame) -> Any:
        vertices, faces = unit_meshes()["sphere"]
        points = frame.marker_pos.flatten(0, 1).numpy()
        return self.server.scene.add_batched_meshes_simple(
            "/world/markers",
            MARKER_RADIUS * vertices,
            faces,
            batched_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (len(points), 1)),
            batched_positions=points,
            batched_colors=MARKER_COLOUR,
            lod="off",
            cast_shadow=False,
            receive_shadow=False,
        )

    def _build_widgets(self, num_humanoids: int) -> None:
        gui = self.server.gui
        gui.configure_theme(control_width="medium", show_logo=False, show_share_button=False)
        gui.set_panel_label("puffer-phc")
        self.status = gui.add_markdown("")
        for heading, names in _FOLDERS:
            with gui.add_folder(heading):
                for name in names:
                    self.widgets[name] = self._widget(command(name), num_humanoids)
        with gui.add_folder("Keys", expand_by_default=False):
            gui.add_markdown(
                "\n".join(["| key | |", "| --- | --- |", *(f"| {key} | {text} |" for key, text in key_table() if key != "ESCAPE")])
            )
        for entry in COMMANDS:
            if entry.key and entry.key != "ESCAPE":
                self._hotkey(entry)

    def _hotkey(self, entry: Command) -> None:
        key: Any = _KEYS.get(entry.key, entry.key)
        handle = self.server.gui.add_command(entry.label, description=entry.help, hotkey=key)

        @handle.on_trigger
        async def _(_: Any) -> None:
            self._session.post(entry.name)

    def _widget(self, entry: Command, num_humanoids: int) -> Any:
        """The widget of a command. Callbacks are coroutines: viser runs those in the order in which they came."""
        gui, session = self.server.gui, self._session
        label = f"{entry.label} ({entry.key})" if entry.key and entry.key != "ESCAPE" else entry.label
        if entry.kind == "action":
            button = gui.add_button(label, hint=entry.help)

            @button.on_click
            async def _(_: Any) -> None:
                session.post(entry.name)

            return button
        widget: Any = self._input(entry, label, _to_widget(entry.name, getattr(session.settings, entry.name)), num_humanoids)

        @widget.on_update
        async def _(event: Any) -> None:
            if event.client is not None:
                session.post(entry.name, _from_widget(entry.name, event.target.value))

        return widget

    def _input(self, entry: Command, label: str, value: Any, num_humanoids: int) -> Any:
        """A widget that holds a value."""
        gui = self.server.gui
        if entry.kind == "toggle":
            return gui.add_checkbox(label, initial_value=value, hint=entry.help)
        if entry.kind == "choice":
            return gui.add_dropdown(label, [ALL_CLIPS, *self._session.clip_names], initial_value=value, hint=entry.help)
        if entry.name == "speed":
            return gui.add_slider(label, min=SPEEDS[0], max=SPEEDS[-1], step=0.05, initial_value=value, hint=entry.help)
        last, is_alone = max(num_humanoids, 2), num_humanoids == 1
        return gui.add_slider(label, min=1, max=last, step=1, initial_value=value, hint=entry.help, disabled=is_alone)

    def _show_settings(self, settings: Settings) -> None:
        """Bring widgets and colours up to date where the settings have changed since the last picture."""
        before, self._shown = self._shown, settings
        for name, value in settings._asdict().items():
            if before is not None and getattr(before, name) == value:
                continue
            if name in self.widgets:
                self.widgets[name].value = _to_widget(name, value)
            if name == "colour_shift":
                self.humanoids.paint(colours(len(self._labels), self._shades, value))
            elif name == "reference":
                self._references.show(value)
            elif name == "markers":
                self._markers.visible = value

    def _show_frame(self, frame: Frame, settings: Settings, seconds: float) -> None:
        staged = stage(frame, settings)
        point = self._focus.move(staged.body_pos[:, 0], settings, seconds)
        self.world.position = (-point).numpy()
        self.humanoids.move(staged.body_pos, frame.body_quat)
        if settings.reference:
            self._references.move(staged.reference_pos, frame.reference_quat)
        if settings.markers:
            self._markers.batched_positions = staged.marker_pos.flatten(0, 1).numpy()
        self._show_labels(frame, staged.body_pos[:, 0])
        self._session.camera = self._camera(point)

    def _show_labels(self, frame: Frame, roots: Tensor) -> None:
        for label, name, root in zip(self._labels, frame.clips, roots.numpy()):
            label.position = root + np.array([0.0, 0.0, _LABEL_HEIGHT])
            if label.text != name:
                label.text = name

    def _show_status(self) -> None:
        lines: List[str] = [f"**{what}** {value}" for what, value in self._session.status()]
        text = "  \n".join(lines)
        if self.status.content != text:
            self.status.content = text

    def _camera(self, point: Tensor) -> Optional[CameraPlace]:
        """The place of the first watcher's camera; the page moves the world under it."""
        for client in self.server.get_clients().values():
            position, look_at = (tuple((np.asarray(at) + point.numpy()).tolist()) for at in (client.camera.position, client.camera.look_at))
            return CameraPlace(position, look_at)
        return None


def _from_widget(name: str, value: Any) -> Any:
    if name == "humanoid":
        return int(value) - 1
    return None if name == "clip" and value == ALL_CLIPS else value


def _to_widget(name: str, value: Any) -> Any:
    if name == "humanoid":
        return value + 1
    return ALL_CLIPS if name == "clip" and value is None else value
