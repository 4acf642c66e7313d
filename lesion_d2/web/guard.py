"""What stands before every request: who may ask, how much may be sent, how many may wait."""

import asyncio
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 64 * 2**20  # of an upload
MAX_JSON = 8 * 2**20  # of anything else, which takes many times its bytes once it is parsed
PLACES = 16  # requests that are received or worked on at a time
STALL = 20.0  # seconds that a client may send nothing
PATIENCE = 300.0  # seconds that a request may take to arrive
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Everything comes from this server; nothing may frame the page, or read from it elsewhere.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# The API's page, of the package fastapi-offline, starts with a script inside its HTML.
DOCS_POLICY = POLICY + "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"


class Guard:
    """ASGI middleware.

    It refuses requests for another host's name (rebinding), from pages of other sites, without the
    token where there is one, of too many bytes, of clients that stall, and posts beyond ``PLACES``.
    A refused request is read to its end, and dropped, so that the client sees the answer.
    """

    def __init__(
        self, app: ASGIApp, token: str = "", names: Iterable[str] = (), stall: float = STALL
    ) -> None:
        """Guard ``app``.

        Args:
            app: what answers.
            token: that requests must show, as ``Authorization: Bearer``, or once as ``?token=`` of
                the page's address; none when it is empty.
            names: of this computer by which it may be asked, beside its addresses; loopback alone
                without a token.
            stall: seconds that a client may send nothing.
        """
        self._app = app
        self._token = token
        self._names = frozenset(name.lower() for name in names)
        self._stall = stall
        self._free = PLACES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close"})
            return
        body = _Body(receive, self._stall, _limit(scope))
        answer = self._refusal(scope) or self._welcome(scope)
        posts = scope["method"] not in ("GET", "HEAD")
        if not answer and posts and not self._free:
            busy = f"{PLACES} requests are being worked on; ask again in a second"
            answer = JSONResponse({"detail": busy}, 429, headers={"Retry-After": "1"})
        finish = _with_headers(send, scope["path"])
        if answer:
            await body.drain()
            await answer(scope, receive, finish)
            return
        self._free -= posts
        try:
            await self._app(scope, body.receive, finish)
        finally:
            self._free += posts

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            detail = "the name in the address is not one of this computer; use the printed address"
            return JSONResponse({"detail": detail}, 403)
        # Browsers send both of these themselves; other programs, which hold no cookies, need not.
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        opened = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if (site not in ("none", "same-origin") and not opened) or (
            origin and origin.rpartition("//")[2].lower() != hosts[0].lower()
        ):
            return JSONResponse({"detail": "another site's page asks; nothing is done"}, 403)
        return None

    def _welcome(self, scope: Scope) -> JSONResponse | RedirectResponse | None:
        """Ask for the token; the address that holds it leads on to one without."""
        if not self._token:
            return None
        cookie = f"lesion_d2_{(scope.get('server') or ('', 0))[1]}"
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] == "GET" and self._knows(query.pop("token", "")):
            rest = f"?{urlencode(query)}" if query else ""
            answer = RedirectResponse(scope["path"] + rest, 303)
            answer.set_cookie(cookie, self._token, httponly=True, samesite="strict")
            return answer
        asked = HTTPConnection(scope)
        shown = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if self._knows(shown) or self._knows(asked.cookies.get(cookie, "")):
            return None
        detail = "the token is missing or wrong; use the whole address that tools/serve.py printed"
        return JSONResponse({"detail": detail}, 401, headers={"WWW-Authenticate": "Bearer"})

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host header names this computer; a rebound name is always a name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in LOOPBACK | self._names:
            return True
        try:
            return bool(self._token and ipaddress.ip_address(name))
        except ValueError:
            return False


class _Body:
    """The body of a request, cut off at ``limit`` bytes and when the client stalls."""

    def __init__(self, receive: Receive, stall: float, limit: int) -> None:
        self._receive, self._stall, self._limit = receive, stall, limit
        self._bytes, self._over = 0, False
        self._until = asyncio.get_running_loop().time() + PATIENCE

    async def receive(self) -> Message:
        begun = not self._over
        message = await self._next()
        if begun and message["type"] == "http.disconnect":
            raise HTTPException(400, "the upload was cut")  # nobody is there to read it
        if self._bytes > self._limit:
            await self.drain()
            detail = f"more than {self._limit >> 20} MB in one request; send less at a time"
            raise HTTPException(413, detail)
        return message

    async def drain(self) -> None:
        """Drop the rest."""
        try:
            while not self._over:
                await self._next()
        except HTTPException:
            pass

    async def _next(self) -> Message:
        if self._over:  # all has arrived, and the application waits for the client to leave
            return await self._receive()
        left = self._until - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(self._stall, left)))
        except asyncio.TimeoutError as error:
            self._over = True
            raise HTTPException(
                408, "the upload stopped; send it again", {"Connection": "close"}
            ) from error
        self._bytes += len(message.get("body", b""))
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def _limit(scope: Scope) -> int:
    kind = Headers(scope=scope).get("content-type", "")
    return MAX_BYTES if kind.startswith("multipart/form-data") else MAX_JSON


def _with_headers(send: Send, path: str) -> Send:
    async def finish(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if path == "/docs":
                headers["Content-Security-Policy"] = DOCS_POLICY
        await send(message)

    return finish
