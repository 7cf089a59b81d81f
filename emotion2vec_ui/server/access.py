"""Who may call, from where and how much: one ASGI layer around everything that is served.

It covers the API, Gradio's own routes, files and docs alike. Without a password only `/health` and
`/ready` answer, which say nothing but the model's state. How much a request may send and whether
it counts as a recognition is declared beside its route, with `limited`; the defaults are small.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from emotion2vec_ui import texts
from emotion2vec_ui.errors import (
    BadField,
    EmotionError,
    ForeignOrigin,
    RateLimited,
    Unauthorized,
    UploadTooLarge,
)
from emotion2vec_ui.settings import Settings, is_loopback

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
COUNT = "count_recognition"
"""In the request's state: what an event of the page calls before it recognises anything. Which of
Gradio's requests will do so cannot be told from their routes."""

CALLER = "caller"
"""In the request's state: what tells callers apart: a digest of a key or user, or an address."""

FORM_OVERHEAD_BYTES = 65_536
"""Boundaries, part headers and the two other fields of a form."""

BASE64_GROWTH = 4 / 3
"""Gradio's classic JSON carries the file in base64."""

MAX_MESSAGE_BYTES = 4_000_000
"""Of a body without a recording: names and choices, which Gradio reads into memory whole."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Cross-Origin-Resource-Policy": "same-origin",
}

RATE_WINDOW_S = 60.0
RATE_CALLERS = 10_000
"""Callers remembered at a time; the longest unseen is forgotten first."""


Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True)
class Limits:
    """What one request to a route may send, and whether it counts.

    Attributes:
        body: "message": at most `MAX_MESSAGE_BYTES`; "recording": at most `--max-upload-mb` and
            the form around it; "own": the route limits its body itself while it reads.
        counted: each request is one recognition against the caller's `--rate-limit`.
    """

    body: Literal["message", "recording", "own"] = "message"
    counted: bool = False


def limited(limits: Limits) -> Callable[[Endpoint], Endpoint]:
    """Declares the limits of a route: a decorator of its endpoint, below the route's own."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.limits = limits  # type: ignore[attr-defined]
        return endpoint

    return declare


class Guard:
    """The ASGI layer.

    Args:
        app: what it protects, with its `routes`; kept as `app`.
        settings: passwords, keys, origins, limits.
    """

    def __init__(self, app: Starlette, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._secrets = [_digest(key) for key in settings.api_keys]
        self._login = _digest(settings.auth) if settings.auth else None
        self._limiter = RateLimiter(settings.rate_limit) if settings.rate_limit else None
        self._root_path = "/" + settings.root_path.strip("/") if settings.root_path else ""
        self._local_only = is_loopback(settings.server_name) and not (self._secrets or self._login)
        self._hosts = {urlsplit(origin).hostname for origin in settings.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks one request and passes it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        headers = Headers(scope=scope)

        body = _Body(receive)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                sent = MutableHeaders(scope=message)
                sent["X-Request-Id"] = request_id
                # Gradio lets pages of any site read its answers when it is not on localhost.
                for name in [name for name in sent if name.startswith("access-control-")]:
                    del sent[name]
                for name, value in SECURITY_HEADERS.items():
                    sent.setdefault(name, value)
                self._allow_origin(headers, sent)
            await send(message)

        try:
            if self._is_preflight(scope, headers):
                await Response(status_code=204)(scope, receive, send_with_headers)
                return
            self._check_origin(scope, headers)
            caller = self._authenticate(scope, headers)
            scope["state"][CALLER] = caller
            if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
                scope["state"][COUNT] = partial(self._count, caller)
                limits = self._limits(scope)
                if limits.counted:
                    self._count(caller)
                self._bound(body, limits, headers)
            self._check_host(scope, headers)
            _check_names(headers)
        except EmotionError as error:
            await self._refuse(error, scope, headers, receive, send_with_headers)
            return

        async def send_answer(message: Message) -> None:
            # Of a body that was too long, each application makes an error of its own.
            if started or body.exceeded is None:
                await send_with_headers(message)

        try:
            await self.app(scope, body.receive, send_answer)
        except Exception:
            if started or body.exceeded is None:
                raise
        if body.exceeded is not None and not started:
            await self._refuse(body.exceeded, scope, headers, receive, send_with_headers)

    def _path(self, scope: Scope) -> str:
        """The path as the routes know it: a proxy may or may not have taken the prefix off."""
        path: str = scope["path"]
        if self._root_path and path.startswith(self._root_path + "/"):
            return path[len(self._root_path) :]
        return path

    def _authenticate(self, scope: Scope, headers: Headers) -> str:
        """The caller's name for the rate limit: a key's or user's digest, else the address.

        Raises:
            Unauthorized: a password or key is set and this request has neither.
        """
        client = scope.get("client")
        address = client[0] if client else "local"
        if self._path(scope) in OPEN_PATHS or not (self._secrets or self._login):
            return address
        for given in _credentials(headers):
            digest = _digest(given)
            # All are compared, each in constant time: the duration depends on no secret.
            matches = [hmac.compare_digest(digest, secret) for secret in self._secrets]
            if self._login is not None:
                matches.append(hmac.compare_digest(digest, self._login))
            if any(matches):
                return digest.hex()
        raise Unauthorized()

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuses what a page of another site makes a visitor's browser send.

        CORS withholds answers from such a page; it does not keep its request from running here.
        """
        origin = headers.get("origin")
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site":
                raise ForeignOrigin(origin="?")
            return
        if not self._is_known(origin, headers):
            raise ForeignOrigin(origin=origin[:200])

    def _is_known(self, origin: str, headers: Headers) -> bool:
        # Not parsed: what no browser sends must not be able to raise anything here.
        host = origin.partition("://")[2].lower()
        is_own = host != "" and host == headers.get("host", "").lower()
        return is_own or self._is_allowed(origin)

    def _is_allowed(self, origin: str) -> bool:
        """Whether `--allowed-origins` names it."""
        return origin.rstrip("/").lower() in self._settings.origins

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        """Refuses foreign names where only this machine can reach the server, without a password.

        Against DNS rebinding: a page of evil.example, whose name then turns into 127.0.0.1, is of
        the same origin as this server for the browser. An address cannot be made to mean another.
        """
        host = headers.get("host", "")
        if not self._local_only or not host or self._path(scope) in OPEN_PATHS:
            return
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            raise ForeignOrigin(origin=host[:200]) from None

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        return (
            scope["type"] == "http"
            and scope["method"] == "OPTIONS"
            and self._is_allowed(headers.get("origin", ""))
            and "access-control-request-method" in headers
        )

    def _allow_origin(self, headers: Headers, sent: MutableHeaders) -> None:
        origin = headers.get("origin")
        if origin and self._is_allowed(origin):
            sent["Access-Control-Allow-Origin"] = origin
            sent["Access-Control-Allow-Headers"] = "authorization, content-type, x-api-key"
            sent["Access-Control-Allow-Methods"] = "GET, POST, DELETE, OPTIONS"
            sent["Cross-Origin-Resource-Policy"] = "cross-origin"
            sent.add_vary_header("Origin")

    def _count(self, caller: str) -> None:
        """Counts one recognition.

        Raises:
            RateLimited: it is one too many.
        """
        if self._limiter is not None:
            self._limiter.take(caller)

    def _limits(self, scope: Scope) -> Limits:
        """Those of the route that will answer."""
        inside = {**scope, "root_path": self._root_path}
        for route in self.app.routes:
            match, found = route.matches(inside)
            if match is Match.FULL:
                return getattr(found.get("endpoint"), "limits", Limits())
        return Limits()

    def _bound(self, body: _Body, limits: Limits, headers: Headers) -> None:
        """Sets how long the body may be.

        Raises:
            UploadTooLarge: the declared length says that it is longer, before it is read.
        """
        if limits.body == "own":
            return
        limit, limit_mb = MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES / 1e6
        if limits.body == "recording":
            limit, limit_mb = self._settings.max_upload_bytes, self._settings.max_upload_mb
            if headers.get("content-type", "").startswith("application/json"):
                limit = int(limit * BASE64_GROWTH)
            limit += FORM_OVERHEAD_BYTES
        body.limit, body.limit_mb = limit, limit_mb
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise UploadTooLarge(limit_mb=limit_mb)

    async def _refuse(
        self, error: EmotionError, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        log.info("refused %s %s: %s", scope.get("method", "websocket"), scope["path"], error.code)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        response = error_response(error, language(headers, self._settings))
        if isinstance(error, Unauthorized):
            # Browsers ask for the password by themselves and then send it everywhere.
            response.headers["WWW-Authenticate"] = 'Basic realm="emotion2vec", charset="UTF-8"'
        await response(scope, receive, send)


class _Body:
    """A request's body as it comes in, at most `limit` bytes of it where there is a limit.

    Attributes:
        limit: in bytes.
        limit_mb: the limit as it is told.
        exceeded: the error that was raised, once it was.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0
        self.limit: int | None = None
        self.limit_mb = 0.0
        self.exceeded: UploadTooLarge | None = None

    async def receive(self) -> Message:
        """The next message.

        Raises:
            UploadTooLarge: with it more came than is allowed.
        """
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self.limit is not None and self._seen > self.limit:
            self.exceeded = UploadTooLarge(limit_mb=self.limit_mb)
            raise self.exceeded
        return message


class RateLimiter:
    """At most `per_minute` calls in any 60 s for each caller, by a sliding window."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._calls: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str, now: float | None = None) -> None:
        """Counts one call.

        Raises:
            RateLimited: with the seconds until the next is allowed.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            recent = [at for at in self._calls.pop(caller, []) if at > now - RATE_WINDOW_S]
            self._calls[caller] = recent
            if len(self._calls) > RATE_CALLERS:
                self._calls.popitem(last=False)
            if len(recent) >= self._per_minute:
                wait_s = recent[0] + RATE_WINDOW_S - now
                raise RateLimited(
                    limit_per_minute=self._per_minute, retry_after_s=max(1, int(wait_s) + 1)
                )
            recent.append(now)


def error_response(error: EmotionError, lang: str) -> JSONResponse:
    """The contract's one error body, with Retry-After where there is one."""
    headers = {}
    if "retry_after_s" in error.facts:
        headers["Retry-After"] = str(error.facts["retry_after_s"])
    return JSONResponse({"error": error.to_dict(lang)}, error.status, headers)


def language(headers: Headers, settings: Settings) -> str:
    """The language to answer in: what the operator set, else what the caller accepts."""
    return settings.lang or texts.negotiate(headers.get("accept-language", ""))


def _check_names(headers: Headers) -> None:
    """Refuses names of this server that no address can hold: Gradio makes addresses of them.

    Raises:
        BadField: there is such a name.
    """
    import httpx  # as Gradio does

    for field in ("Host", "X-Forwarded-Host"):
        for name in headers.get(field, "").split(","):
            try:
                httpx.URL(f"http://{name.strip()}")
            except (httpx.InvalidURL, ValueError):
                raise BadField(
                    field=field, value=repr(name)[:100], allowed="name, name:port"
                ) from None


def _credentials(headers: Headers) -> Iterable[str]:
    """What the caller offers: a bearer key, a key header, USER:PASSWORD, and a password alone.

    The last lets a browser, which can only do Basic, enter with a key as the password.
    """
    if key := headers.get("x-api-key"):
        yield key
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield value.strip()
    elif kind.lower() == "basic":
        try:
            pair = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield pair
        yield pair.partition(":")[2]


def _digest(secret: str) -> bytes:
    """Of the same length for every secret: comparing does not reveal that either."""
    return hashlib.sha256(secret.encode()).digest()
