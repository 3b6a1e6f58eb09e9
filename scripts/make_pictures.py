"""The pictures of the README: the policy as a .gif, and what the pages look like, taken by a headless Chromium.

python scripts/make_pictures.py                                  # the shipped policy on the sample motions
python scripts/make_pictures.py -c experiments/RUN/latest.pt --clip walk --only policy.gif
"""

import argparse
import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from puffer_phc.command_line import run_main, say

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests"))

from browser import Browser  # noqa: E402 # pyright: ignore[reportMissingImports] (the tests' own)

PICTURES = REPOSITORY / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 860
PATIENCE = 180.0
"""s, for a page on a busy machine."""
_WITHOUT_NOTICE = "[...document.querySelectorAll('[class*=Notification-root]')].forEach(notice => notice.remove())"
"""Viser warns of a browser that draws without a GPU, as a headless one does."""
_TRAIN = [sys.executable, str(REPOSITORY / "scripts" / "train.py")]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(words: List[str], port: int) -> Iterator[str]:
    """The address of the page that train.py with ``words`` serves on ``port``, until the block ends."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([*_TRAIN, *words], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5.0).close()
                break
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"no page at {url}")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


def photograph(url: str, is_ready: str, seconds: float, path: Path, keys: Sequence[Tuple[str, str]] = ()) -> None:
    """Write what the page at ``url`` looks like ``seconds`` after the JavaScript ``is_ready`` came true, and after each of ``keys``.

    A key is its name and its code.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(Path(folder))
        browser.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        browser.call("Page.navigate", url=url)
        browser.wait_for(is_ready, PATIENCE)
        time.sleep(seconds)
        for key in keys:
            browser.evaluate("document.activeElement.blur()")
            browser.key(*key)
            time.sleep(seconds)
        browser.evaluate(_WITHOUT_NOTICE)
        shot = Path(folder) / "shot.png"
        browser.screenshot(shot)
        picture = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
        browser.close()
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def film_policy(checkpoint: List[str], clip: str, path: Path) -> None:
    """The policy on one of the sample motions."""
    size = ["--video.width", "480", "--video.height", "320", "--video.seconds", "2.7", "--video.path", str(path)]
    subprocess.run([*_TRAIN, "--mode", "play", *checkpoint, "--viewer", "video", "--play.clip", clip, *size], check=True)


def photograph_play(checkpoint: List[str], clip: str, path: Path) -> None:
    """The play page."""
    port = free_port()
    with serving(["--mode", "play", *checkpoint, "--viewer", "web", "--play.port", str(port), "--play.clip", clip], port) as url:
        keys = ((" ", "Space"), ("y", "KeyY"))  # pause, so that a slow browser catches up, and the references aside
        photograph(url, "document.body && document.body.innerText.includes('Side by side')", 8.0, path, keys)


def photograph_report(checkpoint: List[str], clip: str, path: Path) -> None:
    """The page of an evaluation, from its worst clips on."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*_TRAIN, "--mode", "eval", *checkpoint, "--output", folder], check=True, stdout=subprocess.DEVNULL)
        (report,) = Path(folder).glob("*.html")
        photograph(report.as_uri(), "document.querySelector('.player') !== null", 3.0, path)


def photograph_watch(checkpoint: List[str], clip: str, path: Path) -> None:
    """The page of a run that trains, after its second evaluation."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = ["--train.watch", "--train.watch_port", str(port), "--train.data_dir", folder, "--train.eval_interval", "5"]
        with serving(words, port) as url:
            photograph(url, "typeof seen !== 'undefined' && seen.attempt > 1 && seen.clips > 1", 4.0, path)


MAKERS: Dict[str, Callable[[List[str], str, Path], None]] = {
    "policy.gif": film_policy,
    "play.png": photograph_play,
    "report.png": photograph_report,
    "watch.png": photograph_watch,
}


def make() -> int:
    """Make the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--checkpoint", type=Path, help="policy to show; default: the shipped one")
    parser.add_argument("--clip", default="cartwheel", help="sample motion that it imitates")
    parser.add_argument("--only", choices=MAKERS, nargs="+", default=list(MAKERS), help="which pictures")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    checkpoint = [] if arguments.checkpoint is None else ["-c", os.fspath(arguments.checkpoint.absolute())]
    for name in arguments.only:
        MAKERS[name](checkpoint, arguments.clip, PICTURES / name)
        say(f"wrote {PICTURES / name}: {(PICTURES / name).stat().st_size / 1e3:.0f} kB")
    return 0


def main() -> int:
    """Parse the command line and make the pictures."""
    return run_main(make)


if __name__ == "__main__":
    sys.exit(main())
