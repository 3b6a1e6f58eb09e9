"""A web server for one page and what its script asks for, that answers this machine's browsers only unless told otherwise."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Mapping, Optional

from puffer_phc.addresses import family, page_url

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_LONGEST_REQUEST = 1 << 16
_PATIENCE = 30.0
"""s that a request may take to come."""


class PageServer:
    """Serves ``page`` at /, the JSON of each of ``answers`` at its path, and hands JSON that is posted to ``posts``.

    Requests for another host than ``host`` or this machine's own names are refused: a foreign page whose name was made to point here could
    read along otherwise. With 0.0.0.0 every name goes. What is posted has to say that it is JSON, which no foreign page may without asking.
    """

    def __init__(
        self,
        host: str,
        port: int,
        page: str,
        answers: Mapping[str, Callable[[], Any]],
        posts: Optional[Mapping[str, Callable[[Any], None]]] = None,
    ) -> None:
        handler = _handler(host, page.encode("utf-8"), dict(answers), dict(posts or {}))
        self._server = _server_class(host)((host, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = page_url(host, self._server.server_address[1])
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> Any:
    class Server(ThreadingHTTPServer):
        address_family = family(host)

    return Server


def _length(header: Optional[str]) -> int:
    """The bytes that a request says it has; 0 where it says something else."""
    return int(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 10 else 0


def _handler(host: str, page: bytes, answers: Dict[str, Callable[[], Any]], posts: Dict[str, Callable[[Any], None]]) -> Any:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if not self._is_for_us():
                self._send(403, b"not for this host", "text/plain")
            elif path == "/":
                self._send(200, page, "text/html; charset=utf-8")
            elif path in answers:
                self._send(200, json.dumps(answers[path](), separators=(",", ":")).encode("utf-8"), "application/json")
            else:
                self._send(404, b"nothing here", "text/plain")

        def do_POST(self) -> None:
            length = _length(self.headers.get("Content-Length"))
            is_json = self.headers.get("Content-Type", "").startswith("application/json")
            if not (self._is_for_us() and is_json and 0 < length < _LONGEST_REQUEST and self.path in posts):
                self._send(403, b"refused", "text/plain")
                return
            try:
                posts[self.path](json.loads(self.rfile.read(length)))
            except ValueError:
                self._send(400, b"not understood", "text/plain")
            else:
                self._send(200, b"{}", "application/json")

        def _is_for_us(self) -> bool:
            asked = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            return host in ("0.0.0.0", "::") or asked in (host, f"[{host}]", *_LOCAL_NAMES)

        def _send(self, status: int, content: bytes, kind: str) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                pass  # the browser has gone

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
