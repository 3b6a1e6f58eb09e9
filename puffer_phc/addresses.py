"""Where pages are served: whether an address can be listened on, and what to type into a browser."""

import errno
import socket

from puffer_phc.errors import ConfigError


def family(host: str) -> socket.AddressFamily:
    """The kind of address that ``host`` is; a name counts as one of IPv4."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def page_url(host: str, port: int) -> str:
    """What leads a browser to ``port`` of ``host``."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_port(host: str, port: int, prefix: str = "play.") -> None:
    """Raise ConfigError where ``host`` and ``port`` can't be listened on: viser would silently take another port.

    ``prefix`` begins the names of the options that say so.
    """
    try:
        with socket.socket(family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except socket.gaierror as error:
        raise ConfigError(f"{prefix}host {host!r} is no address of this machine") from error
    except (OSError, OverflowError) as error:
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = (
            f"is in use; choose another with --{prefix}port" if in_use else f"can't be used: {getattr(error, 'strerror', None) or error}"
        )
        raise ConfigError(f"port {port} of {host} {reason}") from error
