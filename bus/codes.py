"""Every answer there is to a command, in one table.

A `Code` is ours and unique. What a client sees is its row in `ANSWERS`: the historic number (the same number
means different things to different methods), its text and its HTTP status (CONTRACT 1.4).
"""

from enum import IntEnum
from typing import NamedTuple


class Code(IntEnum):
    """The outcome of a request. Kernels return it, `RESULT.code` carries it."""

    OK = 0
    INVALID_ARGUMENT = 1
    INTERNAL_ERROR = 2
    SERVICE_UNAVAILABLE = 3
    METHOD_NOT_FOUND = 4
    SERVICE_TIMEOUT = 5
    REQUIRE_AUTHENTICATION = 6
    REPEAT_UPDATE = 10
    UPDATE_BALANCE_NOT_ENOUGH = 11
    ORDER_BALANCE_NOT_ENOUGH = 20
    AMOUNT_TOO_SMALL = 21
    NO_ENOUGH_TRADER = 22
    ORDER_NOT_FOUND = 30
    USER_NOT_MATCH = 31
    EVENTS_GONE = 40
    TOO_MANY_SUBSCRIPTIONS = 41
    TOO_MANY_REQUESTS = 42


class Answer(NamedTuple):
    """What a client gets for a `Code`."""

    number: int
    text: str
    http_status: int


ANSWERS: dict[Code, Answer] = {
    Code.INVALID_ARGUMENT: Answer(1, "invalid argument", 200),
    Code.INTERNAL_ERROR: Answer(2, "internal error", 200),
    Code.SERVICE_UNAVAILABLE: Answer(3, "service unavailable", 200),
    Code.METHOD_NOT_FOUND: Answer(4, "method not found", 404),
    Code.SERVICE_TIMEOUT: Answer(5, "service timeout", 504),
    Code.REQUIRE_AUTHENTICATION: Answer(6, "require authentication", 200),
    Code.REPEAT_UPDATE: Answer(10, "repeat update", 200),
    Code.UPDATE_BALANCE_NOT_ENOUGH: Answer(11, "balance not enough", 200),
    Code.ORDER_BALANCE_NOT_ENOUGH: Answer(10, "balance not enough", 200),
    Code.AMOUNT_TOO_SMALL: Answer(11, "amount too small", 200),
    Code.NO_ENOUGH_TRADER: Answer(12, "no enough trader", 200),
    Code.ORDER_NOT_FOUND: Answer(10, "order not found", 200),
    Code.USER_NOT_MATCH: Answer(11, "user not match", 200),
    Code.EVENTS_GONE: Answer(20, "events are gone", 200),
    Code.TOO_MANY_SUBSCRIPTIONS: Answer(21, "too many subscriptions", 200),
    Code.TOO_MANY_REQUESTS: Answer(22, "too many requests", 200),
}
assert set(ANSWERS) == set(Code) - {Code.OK}
