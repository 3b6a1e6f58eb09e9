"""A headless Chromium spoken to over its debugging protocol, for tests of pages; nothing to install but the browser."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--window-size=900,640",
    "--remote-debugging-port=0",
)


def find_chromium():
    """The browser's program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page of a browser of its own, with an empty profile in ``folder``."""

    def __init__(self, folder: Path):
        self._process = subprocess.Popen(
            [find_chromium(), *FLAGS, f"--user-data-dir={folder}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.errors = []
        self._number = 0
        self._socket = connect(self._page_address(folder / "DevToolsActivePort"), max_size=None)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _page_address(self, port_file):
        for _ in range(300):
            if port_file.exists() and port_file.read_text().strip():
                port = port_file.read_text().split()[0]
                pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
                pages = [page for page in pages if page["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            assert self._process.poll() is None, "the browser ended"
            time.sleep(0.1)
        raise AssertionError("no browser within 30 s")

    def call(self, method, **parameters):
        """Call a method of the protocol; errors that the page reports meanwhile are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message):
        kind, parameters = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif kind == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(argument.get("value", argument.get("description"))) for argument in parameters["args"]))
        elif kind == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    def evaluate(self, script):
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, script, seconds=30.0):
        """Wait until a JavaScript expression is true; returns the seconds that it took."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.evaluate(script):
                return time.monotonic() - start
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {script}")

    def key(self, key, code):
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=ord(key.upper()[0]))

    def screenshot(self, path):
        """Write what the page looks like to a .png."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self):
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=20)
