"""Only pages that this program served may steer it: a browser lets any page of the web open a websocket to this machine.

The handshake says which page asks (``Origin``) and by which name it asked for us (``Host``). Both have to be the same, and the name one
that nobody else can have: a number, localhost, or what the page was told to listen on. A name of somebody else's would pass the first
test, if it were made to point here. Programs that are no browsers send no origin, and are let in.
"""

import contextlib
import inspect
import ipaddress
import socket
from http import HTTPStatus
from typing import Any, Iterator, Optional, Set

from puffer_phc.errors import BackendError

REFUSAL = "Open the page by this machine's address, its own name or localhost.\n"


def own_names(host: str) -> Set[str]:
    """The names, beside addresses in numbers, by which a page that listens on ``host`` may be asked for."""
    names = {"localhost", host.lower()}
    return names if host in ("127.0.0.1", "::1", "localhost") else names | {socket.gethostname().lower(), socket.getfqdn().lower()}


def is_own_page(origin: Optional[str], asked_for: Optional[str], names: Set[str]) -> bool:
    """Whether a handshake comes from a page that we served: its ``Origin`` and ``Host`` headers agree, and the host is one of ours."""
    if origin is None:
        return True
    scheme, separator, place = origin.partition("://")
    if not separator or scheme not in ("http", "https") or asked_for is None or place.lower() != asked_for.lower():
        return False
    name = place.lower().rpartition(":")[0] if place.rpartition(":")[2].isdigit() else place.lower()
    return name in names or _is_address(name.strip("[]"))


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


@contextlib.contextmanager
def only_own_pages(names: Set[str]) -> Iterator[None]:
    """Inside, servers of websockets that viser starts refuse pages of others: it has no option for that of its own.

    Raises BackendError where websockets is not what is known of it.
    """
    try:
        from websockets.asyncio import server
    except ImportError as error:
        raise BackendError(f"the web page needs websockets 14 or newer ({error}); run: pip install --upgrade viser") from error
    serve = server.serve

    def guarded(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        async def check(connection: Any, request: Any) -> Any:
            is_handshake = (request.headers.get("Upgrade") or "").lower() == "websocket"
            if is_handshake and not is_own_page(request.headers.get("Origin"), request.headers.get("Host"), names):
                return connection.respond(HTTPStatus.FORBIDDEN, REFUSAL)
            answer = process_request(connection, request) if process_request is not None else None
            return await answer if inspect.isawaitable(answer) else answer

        return serve(*arguments, process_request=check, **options)

    server.serve = guarded  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        server.serve = serve  # type: ignore[misc]


def check_guard(host: str, port: int) -> None:
    """Knock at the page as one of somebody else's would. Raises BackendError where that is let in: a viser that serves in another way."""
    address = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.create_connection((address, port), timeout=5.0) as knock:
        knock.sendall(
            f"GET / HTTP/1.1\r\nHost: elsewhere.invalid:{port}\r\nOrigin: http://elsewhere.invalid:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        answer = knock.recv(64)
    if b" 403 " not in answer:
        raise BackendError("this version of viser lets pages of others steer; use --viewer native or video, or another version of viser")
