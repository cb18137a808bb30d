"""A web server on a port of this machine: bound before anything is loaded, ended by SIGTERM once all is answered."""

import asyncio
import contextlib
import hmac
import os
import socket
import string
from dataclasses import dataclass

from starlette.requests import Request

from hidden_rule.core.errors import UserError
from hidden_rule.deployment.chat_requests import RequestError

KEY = "HIDDEN_RULE_API_KEY"  # environment
MIN_KEY = 16  # characters
KEY_CHARACTERS = {*string.ascii_letters, *string.digits, *"-._~+/="}  # of a bearer token, RFC 6750
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")  # as a request's Host has them
CLOSING_S = 150  # that open requests have to end in
CONNECTIONS = 1024
DRAINED = 16  # times the largest body, read and thrown away so that the client gets to read the refusal


def port_of(text: str, named: str = "PORT") -> int:
    """A port as a number; raises UserError for what is none."""
    if not text.isdecimal() or not text.isascii() or not 0 <= int(text[:9]) <= 65535:
        raise UserError(named, None, f"{text!r} is no port", "give a number from 1024 to 65535, or 0 for any free one")
    return int(text)


def api_key() -> str | None:
    """The key that clients have to name, from the environment, or None; raises UserError for one that is too weak."""
    key = os.environ.get(KEY, "")
    if not key:
        return None
    if len(key) < MIN_KEY or not set(key) <= KEY_CHARACTERS:
        fault = f"must have at least {MIN_KEY} letters, digits or characters of -._~+/="
        raise UserError(KEY, None, fault, "make one: openssl rand -hex 32")
    return key


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises UserError where the port is taken or the host is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        named, remedy = ("PORT", "take another one") if isinstance(error, OSError) and error.errno else ("HOST", None)
        raise UserError(named, f"{host}:{port}", f"cannot be listened on ({reason})", remedy) from None


def address_of(listening: socket.socket) -> str:
    """`http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_app(app, listening: socket.socket) -> None:
    """Serve an application until SIGTERM or Ctrl-C; requests that have come by then are answered."""
    import uvicorn

    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="on", log_level="warning", access_log=False,
        server_header=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=15, timeout_graceful_shutdown=CLOSING_S,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


@dataclass(frozen=True)
class Access:
    """Who may ask. key: what `Authorization: Bearer` has to name, None: anyone who reaches the server.

    hosts: names under which the server may be addressed, empty: any. A page of another site that has its own name point
    here (DNS rebinding) is refused by it.
    """

    key: str | None = None
    hosts: tuple[str, ...] = LOOPBACK

    def check(self, request: Request) -> None:
        """Raise RequestError for who may not ask."""
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts and name not in self.hosts:
            raise RequestError(f"this server is not addressed as {host[:80]!r}", status=403)
        if self.key is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
                raise RequestError("the API key is missing or wrong", code="invalid_api_key", status=401)


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request; raises RequestError for more than `most` bytes, or where it takes longer to arrive."""
    declared = request.headers.get("content-length", "")
    fits = not (declared.isdecimal() and len(declared) < 20 and int(declared) > most)
    body, n_read = bytearray(), 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                n_read += len(part)
                fits = fits and n_read <= most
                if fits:
                    body += part
                elif n_read > DRAINED * most:
                    break
    except TimeoutError:
        raise RequestError(f"the body did not arrive within {seconds:g} s", status=408) from None
    if not fits:
        raise RequestError(f"the body is larger than {most:,} bytes", code="body_too_large", status=413)
    return bytes(body)
