"""The page takes commands from pages that it served itself, and from no other."""

import asyncio
import contextlib
import socket
from typing import Optional

import pytest
import viser
from playing import small_session
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from puffer_phc.errors import BackendError
from puffer_phc.view import own_pages
from puffer_phc.view.own_pages import check_guard, is_own_page, only_own_pages, own_names
from puffer_phc.view.web import WebPage


@pytest.mark.parametrize(
    ("origin", "host", "is_ours"),
    [
        (None, "127.0.0.1:8080", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://localhost:9000", "localhost:9000", True),
        ("http://LocalHost", "localhost", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://192.168.1.7:8080", "192.168.1.7:8080", True),
        ("http://evil.example", "127.0.0.1:8080", False),
        ("http://evil.example:8080", "evil.example:8080", False),
        ("http://localhost:3000", "localhost:8080", False),
        ("http://localhost.evil.example:8080", "localhost.evil.example:8080", False),
        ("http://127.0.0.1.evil.example:8080", "127.0.0.1.evil.example:8080", False),
        ("null", "127.0.0.1:8080", False),
        ("file://", "127.0.0.1:8080", False),
        ("chrome-extension://127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080", None, False),
        ("", "127.0.0.1:8080", False),
    ],
)
def test_whose_page_it_is(origin: Optional[str], host: Optional[str], is_ours: bool) -> None:
    """The second bad one is what a name of somebody else's that was made to point at this machine sends."""
    assert is_own_page(origin, host, own_names("127.0.0.1")) is is_ours


def test_a_page_for_the_network_goes_by_the_name_of_its_machine() -> None:
    name = socket.gethostname().lower()
    assert name in own_names("0.0.0.0")
    assert "box.lan" in own_names("Box.lan")
    assert name not in own_names("127.0.0.1") or name == "localhost"


def handshake(url: str, origin: Optional[str], host: Optional[str] = None) -> int:
    """The status of the answer to a websocket handshake."""
    place = url.partition("://")[2]
    address = place.split(":")
    with socket.create_connection((address[0], int(address[1]))) as plain:
        try:
            with connect(f"ws://{host or place}/", sock=plain, origin=origin, subprotocols=[f"viser-v{viser.__version__}"], max_size=None):
                return 101
        except InvalidStatus as refusal:
            return refusal.response.status_code


def test_the_page_lets_its_own_pages_in_and_no_others(tmp_path) -> None:
    session = small_session(tmp_path)
    page = WebPage(session, "127.0.0.1", 0)
    try:
        port = page.url.rpartition(":")[2]
        assert handshake(page.url, None) == 101
        assert handshake(page.url, page.url) == 101
        assert handshake(page.url, f"http://localhost:{port}", f"localhost:{port}") == 101
        assert handshake(page.url, "http://evil.example") == 403
        assert handshake(page.url, f"http://evil.example:{port}", f"evil.example:{port}") == 403
        assert handshake(page.url, "null") == 403
    finally:
        page.close()
        session.close()


def test_the_page_listens_where_it_was_told_only(tmp_path) -> None:
    session = small_session(tmp_path)
    page = WebPage(session, "127.0.0.1", 0)
    try:
        port = int(page.url.rpartition(":")[2])
        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection(("127.0.0.2", port), timeout=2).close()
    finally:
        page.close()
        session.close()


def test_a_server_without_the_guard_is_noticed() -> None:
    """As a later viser would be that opens its websockets in another way."""
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        with pytest.raises(BackendError, match="lets pages of others steer"):
            check_guard("127.0.0.1", server.get_port())
    finally:
        server.stop()


def test_the_guard_leaves_nothing_behind() -> None:
    from websockets.asyncio import server

    serve = server.serve
    with contextlib.suppress(asyncio.CancelledError), only_own_pages(set()):
        assert server.serve is not serve
    assert server.serve is serve
    assert own_pages.REFUSAL
