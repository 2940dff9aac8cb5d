"""Alerts to a webhook: one POST of JSON for a digest."""

from urllib.parse import urlsplit

import orjson
import urllib3
from urllib3 import PoolManager, Timeout

from persist.alert_digest import Digest, document
from persist.alert_files import START, Position
from persist.alert_targets import Undelivered

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
_HEADERS = {"Content-Type": "application/json", "User-Agent": "tradepit"}


class Webhook:
    """An address that takes digests. What it answers does not matter, but for its status."""

    name = "webhook"

    def __init__(self, url: str, instance: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")  # not the path
        self._instance = instance
        self._http = PoolManager(maxsize=1, retries=False, headers=_HEADERS)

    def make_outbox(self) -> Digest:
        """An empty one."""
        return Digest()

    def deliver(self, outbox: Digest, follower: str = "", begin: Position = START, end: Position = START) -> None:
        """Send it as one call. Raises Undelivered."""
        text = orjson.dumps(_encodable(document(outbox, self._instance)))
        try:
            reply = self._http.request(
                "POST",
                self._url,
                body=text,
                timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=ANSWER_TIMEOUT_S),
                redirect=False,
                preload_content=False,
            )
        except (
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:  # its text has the address, which is secret
            raise Undelivered(f"{self._place}: {_reason(error)}") from None
        reply.close()  # unread: it may have no end
        if not 200 <= reply.status < 300:
            raise Undelivered(f"{self._place}: it answers with status {reply.status}")

    def close(self) -> None:
        """Disconnect."""
        self._http.clear()


def _reason(error: Exception) -> str:
    """What went wrong: the kind of the innermost error, and its number's text if it is the system's."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return (inner.strerror if isinstance(inner, OSError) else None) or type(inner).__name__


def _encodable(value: object) -> object:
    """The same, without what is no character (conf/alert_record.py)."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {key: _encodable(item) for key, item in value.items()}
        case list():
            return [_encodable(item) for item in value]
    return value
