"""A policy that plays clips, steered by commands: the one owner of state behind window, page, video and plain text."""

import logging
import math
import queue
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

import torch

from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.terminations import tracking_error
from puffer_phc.errors import PhcError
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.play.playlist import Episode, Playlist
from puffer_phc.view.commands import SPEEDS, command
from puffer_phc.view.session import CameraPlace, Frame, Recorder, Settings

_MOST_STEPS = 8
"""Control steps taken at a time at most: what a slow machine can't keep up with is dropped, so that commands stay quick."""

_logger = logging.getLogger(__name__)


class PlaySession:
    """N humanoids that a policy moves, and what a person can do to them; fulfils ``view.session.Session``.

    ``load_policy`` makes a policy of a checkpoint and raises a PhcError for one that does not fit; ``make_recorder`` opens a video file.
    ``env``, ``policy`` and ``act``, which calls it, are there to be looked at. Only ``post`` may be called from other threads.
    """

    def __init__(
        self,
        env: ImitationEnv[Playlist],
        policy: PHCPolicy,
        checkpoint: Path,
        load_policy: Callable[[Path], PHCPolicy],
        make_recorder: Callable[[], Recorder],
        settings: Settings,
        push_speed: float,
    ) -> None:
        self.env, self._playlist = env, env.sampler
        self._use(policy)
        self._checkpoint, self._load_policy, self.make_recorder = checkpoint, load_policy, make_recorder
        self._checkpoint_time = checkpoint.stat().st_mtime_ns
        self._push_speed = push_speed
        self._recorder: Optional[Recorder] = None
        self._posted: queue.SimpleQueue[Tuple[str, Any]] = queue.SimpleQueue()
        self._debt = 0.0
        self._message = ""
        self.control_dt = env.control_dt
        self.clip_names: Sequence[str] = env.motions.names
        self.settings = settings._replace(clip=self._playlist.clip)
        self.is_over = False
        self.camera: Optional[CameraPlace] = None

    def post(self, name: str, value: Any = None) -> None:
        """Ask for a command of ``COMMANDS``, from any thread; toggles flip where ``value`` is None."""
        self._posted.put((name, value))

    def advance(self, seconds: float) -> int:
        """Obey what was posted, and play on for ``seconds`` of a clock on the wall; returns the control steps taken."""
        self.obey()
        if self.settings.paused:
            self._debt = 0.0
            return 0
        self._debt += seconds * self.settings.speed
        steps = min(int(self._debt / self.control_dt + 1e-6), _MOST_STEPS)
        for _ in range(steps):
            self.step()
        self._debt = min(self._debt - steps * self.control_dt, self.control_dt)
        return steps

    def _use(self, policy: PHCPolicy) -> None:
        """Act with ``policy``, which knows nothing of what was before."""
        self.policy, self.act = policy, Deterministic(policy)

    def obey(self) -> None:
        """Carry out what was posted, in order; what a command can't do becomes the message on the screen."""
        while not self._posted.empty():
            name, value = self._posted.get()
            try:
                self._carry_out(name, value)
            except PhcError as error:
                self._say(str(error))

    def _carry_out(self, name: str, value: Any) -> None:
        if command(name).kind == "toggle":
            value = not getattr(self.settings, name) if value is None else bool(value)
            if value != getattr(self.settings, name):
                self._switch(name, value)
        elif command(name).kind == "action":
            getattr(self, f"_{name}")()
        else:
            getattr(self, f"_choose_{name}")(value)

    @torch.no_grad()
    def step(self) -> None:
        """One control step of every humanoid; a recording gets its picture."""
        action = self.act(self.env.result.observation, self.env.steps == 0)
        if self.settings.sampled:
            action = action + self.policy.log_std.exp() * torch.randn_like(action)
        self.env.step(action)
        if self._recorder is not None:
            self._record()

    def frame(self) -> Frame:
        """The present instant, on the CPU."""
        env = self.env
        error = tracking_error(env.simulator.body, env.reference.body).mean(-1)
        start = env.motions.at(env.clip_ids, torch.zeros_like(env.times)).body.pos[:, 0]
        tensors = (
            *env.simulator.body[:2],
            *env.reference.body[:2],
            env.next_reference.body.pos,
            start * start.new_tensor([1.0, 1.0, 0.0]),
            error,
            env.times,
            env.motions.durations[env.clip_ids],
        )
        names = tuple(str(self.clip_names[index]) for index in env.clip_ids.tolist())
        return Frame(*(tensor.detach().cpu().clone() for tensor in tensors), clips=names)

    def status(self) -> Tuple[Tuple[str, str], ...]:
        """(what, value) lines for the screen."""
        frame, settings, counts = self.frame(), self.settings, self._playlist.counts
        one = settings.humanoid
        lines = [
            ("clip", f"{frame.clips[one]}, {float(frame.times[one]):.1f} of {float(frame.durations[one]):.1f} s"),
            ("error", f"{1000.0 * float(frame.errors[one]):.0f} mm"),
            ("humanoid", f"{one + 1} of {frame.num_humanoids}"),
            ("to the end / lost", f"{counts['finished']} / {counts['lost']}"),
            ("speed", f"{'paused, ' if settings.paused else ''}{settings.speed:g}×"),
            ("actions", "with noise" if settings.sampled else "mean"),
            ("checkpoint", self._checkpoint.name + (", a newer one is there" if self._newest() is not None else "")),
        ]
        if settings.recording:
            lines.append(("recording", "on"))
        if self._message:
            lines.append(("last", self._message))
        return tuple(lines)

    def close(self) -> None:
        """Finish a recording and free the simulator."""
        try:
            if self._recorder is not None:
                self._switch("recording", False)
        except PhcError as error:
            self._say(str(error))
        finally:
            self.env.close()

    @property
    def ended(self) -> Sequence[Episode]:
        """The episodes that the last control step ended."""
        return self._playlist.ended

    def _say(self, message: str) -> None:
        self._message = message
        _logger.info("%s", message)

    def _switch(self, name: str, value: bool) -> None:
        if name == "recording" and value:
            self._recorder = self.make_recorder()
        self.settings = self.settings._replace(**{name: value})
        if name == "recording" and not value:
            recorder, self._recorder = self._recorder, None
            if recorder is not None:
                self._say(f"recorded {recorder.close()}")

    def _record(self) -> None:
        try:
            assert self._recorder is not None
            self._recorder.add(self.frame(), self.settings)
        except (PhcError, OSError) as error:
            self._cancel_recording()
            self._say(f"recording stopped: {error}")

    def _cancel_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        self.settings = self.settings._replace(recording=False)
        if recorder is not None:
            recorder.cancel()
            self._say("recording discarded")

    def _step(self) -> None:
        self.settings = self.settings._replace(paused=True)
        self.step()

    def _slower(self) -> None:
        self._choose_speed(max((speed for speed in SPEEDS if speed < self.settings.speed), default=SPEEDS[0]))

    def _faster(self) -> None:
        self._choose_speed(min((speed for speed in SPEEDS if speed > self.settings.speed), default=SPEEDS[-1]))

    def _choose_speed(self, value: float) -> None:
        if not math.isnan(value):  # browsers are not the only ones that can post
            self.settings = self.settings._replace(speed=min(max(float(value), SPEEDS[0]), SPEEDS[-1]))

    def _reset(self) -> None:
        self._playlist.restart()
        self._begin()

    def _begin(self) -> None:
        """New episodes as the playlist has them."""
        self.env.reset()
        self.settings = self.settings._replace(clip=self._playlist.clip)

    def _previous_clip(self) -> None:
        self._playlist.shift(-1)
        self._begin()

    def _next_clip(self) -> None:
        self._playlist.shift(1)
        self._begin()

    def _shuffle(self) -> None:
        self._playlist.shuffle()
        self._begin()

    def _choose_clip(self, value: Optional[str]) -> None:
        self._playlist.choose(value)
        self._begin()

    def _choose_humanoid(self, value: int) -> None:
        self.settings = self.settings._replace(humanoid=int(value) % self.env.num_envs)

    def _previous_humanoid(self) -> None:
        self._choose_humanoid(self.settings.humanoid - 1)

    def _next_humanoid(self) -> None:
        self._choose_humanoid(self.settings.humanoid + 1)

    def _colours(self) -> None:
        self.settings = self.settings._replace(colour_shift=self.settings.colour_shift + 1)

    def _push(self) -> None:
        angle = 2.0 * torch.pi * torch.rand(self.env.num_envs, device=self.env.device)
        velocity = self._push_speed * torch.stack((angle.cos(), angle.sin(), torch.zeros_like(angle)), dim=-1)
        self.env.simulator.push(torch.ones_like(self.env.diverged), velocity)
        self._say(f"pushed by {self._push_speed:g} m/s")

    def _newest(self) -> Optional[Path]:
        """The newest checkpoint beside the one that plays, if it was written later."""
        try:
            times = [(path.stat().st_mtime_ns, path) for path in self._checkpoint.parent.glob("*.pt")]
        except OSError:
            return None
        newest = max(times, default=(0, self._checkpoint))
        return newest[1] if newest[0] > self._checkpoint_time else None

    def _newer_checkpoint(self) -> None:
        path = self._newest()
        if path is None:
            self._say(f"no newer checkpoint than {self._checkpoint.name}")
            return
        written = path.stat().st_mtime_ns
        self._use(self._load_policy(path))
        self._checkpoint, self._checkpoint_time = path, written
        self._say(f"playing {path.name}")

    def _progress(self) -> None:
        frame = self.frame()
        for index, clip in enumerate(frame.clips):
            time, error = float(frame.times[index]), 1000.0 * float(frame.errors[index])
            _logger.info("%3d  %-24s %6.2f of %.2f s  error %.0f mm", index + 1, clip, time, float(frame.durations[index]), error)

    def _camera(self) -> None:
        if self.camera is None:
            self._say("no camera here")
        else:
            position, look_at = (", ".join(f"{value:.2f}" for value in point) for point in self.camera)
            self._say(f"camera at ({position}) looks at ({look_at})")

    def _quit(self) -> None:
        self.is_over = True
