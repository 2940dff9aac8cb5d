"""Asking the operator's own service who a client is (CONTRACT 5.6).

It is asked with blocking calls in a few threads, so that no wait of it, nor a resolver's, holds up the loop.
"""

import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode

import gevent
import urllib3
from gevent.threadpool import ThreadPool
from urllib3 import BaseHTTPResponse, PoolManager, Timeout

from bus import jsontext
from bus.codes import Code
from bus.messages import USER_MAX
from gateways.ws.session import Signature, Token

AT_ONCE_MAX = 10
WAITING_MAX = 1_000  # more are refused
REPLY_MAX_SIZE = 64 * 1024
_HEADERS = {"Accept-Language": "en_US", "Content-Type": "application/json"}


class Refusal(NamedTuple):
    """The service does not accept a token or a signature, and says why."""

    text: str


REFUSAL_NUMBER = 11  # the code that a client gets with its text

Verdict = int | Refusal | Code  # a user, or why it is none


class Verifier:
    """Asks the two services of the settings."""

    def __init__(self, auth_url: str, sign_url: str, timeout_s: float, tell: Callable[[str], object]) -> None:
        """`tell` is told what is wrong with the services."""
        self._tell = tell
        self._auth_url = auth_url
        self._sign_url = sign_url
        self._timeout_s = timeout_s
        self._waiting_count = 0
        self._threads = ThreadPool(AT_ONCE_MAX)
        self._http = PoolManager(maxsize=AT_ONCE_MAX, retries=False, headers=_HEADERS)

    def close(self) -> None:
        """Forget whom is still asked."""
        self._http.clear()

    def verify(self, claim: Token | Signature) -> Verdict:
        """Who the client is, in time or not at all."""
        if self._waiting_count >= WAITING_MAX:
            return Code.SERVICE_UNAVAILABLE
        self._waiting_count += 1
        url, proof = self._request(claim)
        try:
            with gevent.Timeout(self._timeout_s, False):
                found = self._threads.spawn(self._fetch, url, proof).get()
                if isinstance(found, bytes):
                    return verdict(found)
                self._tell(f"{_place(url)} does not answer: {type(found).__name__}")
                return Code.INTERNAL_ERROR
            self._tell(f"{_place(url)} did not answer within {self._timeout_s:g} s")
            return Code.SERVICE_TIMEOUT
        finally:
            self._waiting_count -= 1

    def _request(self, claim: Token | Signature) -> tuple[str, str]:
        """The address, and what proves the claim."""
        if isinstance(claim, Token):
            return self._auth_url, claim.token
        query = urlencode({"access_id": claim.access_id, "tonce": claim.tonce})
        return f"{self._sign_url}{'&' if '?' in self._sign_url else '?'}{query}", claim.authorisation

    def _fetch(self, url: str, proof: str) -> bytes | Exception:
        """In a thread: the body of the answer, whatever its status, or what went wrong."""
        try:
            reply = self._http.request(
                "GET",
                url,
                headers=_HEADERS | {"Authorization": proof},
                timeout=Timeout(total=self._timeout_s),
                redirect=False,
                preload_content=False,
            )
            try:
                return self._read(reply)
            except Exception:
                reply.close()
                raise
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return error

    def _read(self, reply: BaseHTTPResponse) -> bytes:
        """The body. Raises OSError when it is too large, or has no end in time: a thread must not be kept by it."""
        end_s, body = time.monotonic() + self._timeout_s, b""
        while part := reply.read1(REPLY_MAX_SIZE):
            body += part
            if len(body) > REPLY_MAX_SIZE or time.monotonic() > end_s:
                raise OSError("the answer has no end")
        if reply.length_remaining:
            raise OSError("the answer is cut off")
        reply.release_conn()
        return body


def _place(url: str) -> str:
    """The address without its parameters, which are a client's."""
    return url.partition("?")[0]


def verdict(body: bytes) -> Verdict:
    """What the answer of a service says."""
    try:
        reply = jsontext.parse(body)
        code, data = reply["code"], reply.get("data")
        if type(code) is not int:
            return Code.INTERNAL_ERROR
        if code:
            text = reply["message"]
            return Refusal(text) if type(text) is str else Code.INTERNAL_ERROR
        user_id = data["user_id"]
    except (jsontext.BadJson, KeyError, TypeError, AttributeError):
        return Code.INTERNAL_ERROR
    return user_id if type(user_id) is int and 0 < user_id <= USER_MAX else Code.INTERNAL_ERROR
