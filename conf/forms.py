"""The forms that settings of text take: addresses, lists of them, stores."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

BUS_PORT_MAX = 65_000  # others follow it (bus/endpoints.py)
SENTINEL_FORM = r"sentinel://[^\s/:,]+:\d+(?:,[^\s/:,]+:\d+)*/[^\s/]+/\d+"


def matches(pattern: str) -> Callable[[str], bool]:
    """The check whether a text is what a regular expression describes."""
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether `text` is "host:port" with a port that can be bound; an IPv6 host stands in brackets."""
    host, _, port = text.rpartition(":")
    named = re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]+", host) is not None
    return named and re.fullmatch(r"\d{1,5}", port, re.ASCII) is not None and 1 <= int(port) <= 65535


def is_bus_address(text: str) -> bool:
    """Whether `text` is "ipc" or "tcp://host:port"."""
    scheme, _, rest = text.rpartition("//")
    return text == "ipc" or (scheme == "tcp:" and is_address(rest) and int(rest.rpartition(":")[2]) <= BUS_PORT_MAX)


def is_broker_list(text: str) -> bool:
    """Whether `text` is "host:port,host:port", or nothing."""
    return text == "" or all(is_address(part.strip()) for part in text.split(","))


def is_environment(variables: Mapping[str, str]) -> bool:
    """Whether these can be variables of an environment."""
    return all(name and "=" not in name and "\0" not in name + text for name, text in variables.items())


def is_time_zone(text: str) -> bool:
    """Whether the time zone database knows `text`."""
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the others: "" and names of folders
        return False
    return True


def is_history_store(text: str) -> bool:
    """Whether `text` is "sqlite" or the address of a MySQL server."""
    parts = re.fullmatch(r"mysql://[^\s@/]+@([^\s@/:]+)(:\d+)?(?:/\w{0,64})?", text, re.ASCII)
    return text == "sqlite" or (parts is not None and (parts[2] is None or is_address(parts[1] + parts[2])))


def is_mail_server(text: str) -> bool:
    """Whether `text` is "smtp://user:password@host:port", "smtps://..." or one without user or port; or nothing."""
    parts = re.fullmatch(r"smtps?://(?:[^\s@/:]+:[^\s@/:]+@)?([^\s@/:]+|\[[0-9a-fA-F:.]+\])(:\d+)?", text, re.ASCII)
    return text == "" or (parts is not None and _has_place(text) and (not parts[2] or is_address(parts[1] + parts[2])))


def is_mail_address(text: str) -> bool:
    """Whether `text` is a plain "name@host"."""
    return re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}", text, re.ASCII) is not None


def is_url(text: str) -> bool:
    """Whether `text` is an address of http or https, with a host, and a port that there is."""
    return re.fullmatch(r"https?://[^\s/?#]+(?:[/?#]\S*)?", text, re.ASCII) is not None and _has_place(text)


def is_webhook(text: str) -> bool:
    """Whether `text` is an address without user and password, which would not be sent; or nothing."""
    return text == "" or (is_url(text) and "@" not in urlsplit(text).netloc)


def _has_place(text: str) -> bool:
    """Whether a host stands in an address, and a port that there can be."""
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_file_or_sentinel(text: str) -> bool:
    """Whether `text` is "file" or says where Sentinels are."""
    if re.fullmatch(SENTINEL_FORM, text, re.ASCII) is None:
        return text == "file"
    return all(is_address(part) for part in text.split("/")[2].split(","))


ADDRESS = {"form": is_address, "form_text": "host:port"}
OTHER_BUS_ADDRESS = {
    "form": lambda text: text == "" or (text != "ipc" and is_bus_address(text)),
    "form_text": f'"" or tcp://host:port, with a port up to {BUS_PORT_MAX}',
}
OPTIONAL_ADDRESS = {"form": lambda text: text == "" or is_address(text), "form_text": '"" or host:port'}
URL = {"form": is_url, "form_text": "an http:// or https:// address"}
WEBHOOK = {"form": is_webhook, "form_text": '"", or an http:// or https:// address without user and password'}
FILE_OR_SENTINEL = {
    "form": is_file_or_sentinel,
    "form_text": "`file`, or sentinel://host:port,host:port/master/database",
}
