"""A gate in front of a web application that has no login and no read-only mode of its own."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from vbot_campaign.watch.address import is_loopback

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

COOKIE = "vbot_campaign_token"
HEADER = "Authorization"
_READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Lets through only what may pass; everything else gets a JSON answer that says why.

    * A request that changes something needs ``allow_edit``, else 405.
    * With a token, each request must carry it: as ``Authorization: Bearer TOKEN``, as a cookie, or once as
      ``?token=TOKEN``, which sets the cookie and leads to the same page without the token in its address.
    * Without a token, only names of this machine are accepted as Host, so that a web page elsewhere cannot reach the
      application through a name of its own that resolves to 127.0.0.1 (DNS rebinding).
    * A change asked for by a page from another origin is refused (cross-site request forgery), and no answer may be
      read by one: optuna-dashboard allows that for artifacts, policies among them.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        token: str | None,
        allow_edit: bool,
        way_out: str = "start with --allow-edit to change studies here",
    ) -> None:
        self._application = application
        self._way_out = way_out
        self._token = token
        self._allow_edit = allow_edit

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self._token is None and not is_loopback(_host_name(environ)):
            return _refuse(start_response, "403 Forbidden", "open this page as 127.0.0.1 or localhost")
        if self._token is not None and not self._is_authorized(environ):
            if self._matches(_query(environ).get("token", "")):
                return self._welcome(environ, start_response)
            return _refuse(
                start_response, "401 Unauthorized", "a token is needed: add ?token=TOKEN to the address once"
            )
        method = environ["REQUEST_METHOD"]
        if method not in _READING and not self._allow_edit:
            message = f"read-only: {method} is not allowed; {self._way_out}"
            return _refuse(start_response, "405 Method Not Allowed", message, ("Allow", ", ".join(_READING)))
        if method not in _READING and _is_foreign(environ):
            return _refuse(start_response, "403 Forbidden", "changes from pages of another origin are refused")
        return self._application(environ, _for_this_origin(start_response))

    def _is_authorized(self, environ: WSGIEnvironment) -> bool:
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return (scheme.lower() == "bearer" and self._matches(bearer.strip())) or self._matches(_cookie(environ))

    def _matches(self, given: str) -> bool:
        # Compared in constant time: how long a refusal takes must not tell how much of the token was right.
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self._token or "").encode())

    def _welcome(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        rest = {name: value for name, value in _query(environ).items() if name != "token"}
        # A path of two slashes would be read as the name of another host.
        path = quote(environ.get("PATH_INFO", "").lstrip("/").encode("latin-1"))
        location = f"/{path}?{urlencode(rest)}" if rest else f"/{path}"
        cookie = SimpleCookie()
        cookie[COOKIE] = self._token or ""
        for name, value in {"path": "/", "httponly": True, "samesite": "Strict"}.items():
            cookie[COOKIE][name] = value
        headers = [("Location", location), ("Set-Cookie", cookie[COOKIE].OutputString()), ("Content-Length", "0")]
        # The address with the token goes neither into a cache nor to the page that a link leads to.
        headers += [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
        start_response("303 See Other", headers)
        return [b""]


def _for_this_origin(start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        kept = [(name, value) for name, value in headers if name.lower() != "access-control-allow-origin"]
        # What a worker printed is text, whatever it looks like.
        return start_response(status, [*kept, ("X-Content-Type-Options", "nosniff")], *exc_info)

    return start


def _host_name(environ: WSGIEnvironment) -> str:
    try:
        return urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return ""


def _is_foreign(environ: WSGIEnvironment) -> bool:
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")


def _query(environ: WSGIEnvironment) -> dict[str, str]:
    return dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))


def _cookie(environ: WSGIEnvironment) -> str:
    try:
        morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _refuse(start_response: StartResponse, status: str, reason: str, *headers: tuple[str, str]) -> list[bytes]:
    # The key that optuna-dashboard's own page looks for when it shows an error.
    body = json.dumps({"reason": reason}).encode()
    common: list[tuple[str, Any]] = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, [*common, *headers])
    return [body]
