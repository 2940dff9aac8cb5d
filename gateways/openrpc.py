"""The description of the interface in OpenRPC's form, made from the method table."""

from typing import Any

import orjson

from bus.codes import ANSWERS, Code
from bus.methods import METHODS, Backend, Method

OPENRPC_VERSION = "1.2.6"
INTERFACE_VERSION = "1"


def document() -> bytes:
    """The OpenRPC document of all methods, as JSON."""
    return orjson.dumps({
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "tradepit",
            "version": INTERFACE_VERSION,
            "description": "JSON-RPC by HTTP POST; parameters by position, numbers as decimal text.",
        },
        "methods": [_described(method) for method in METHODS.values()],
    })


def _described(method: Method) -> dict[str, Any]:
    fixed = [{"name": name, "required": True, "schema": dict(kind.schema)} for name, kind in method.parameters]
    fixed += [{"name": name, "required": False, "schema": dict(kind.schema)} for name, kind in method.optional]
    rest = []
    if method.rest is not None:
        name, kind = method.rest
        rest = [{"name": f"{name}...", "required": False, "schema": dict(kind.schema)}]
    return {
        "name": method.name,
        "summary": method.about,
        "paramStructure": "by-position",
        "params": fixed + rest,
        "result": {"name": "result", "schema": {}},
        "errors": [_error(code) for code in _codes(method)],
    }


def _codes(method: Method) -> list[Code]:
    trouble = [Code.SERVICE_UNAVAILABLE] if method.is_command else []
    if method.backend in (Backend.HISTORY, Backend.MARKET):
        trouble = [Code.INTERNAL_ERROR, Code.SERVICE_UNAVAILABLE]
    return [Code.INVALID_ARGUMENT, *trouble, Code.SERVICE_TIMEOUT, *method.codes]


def _error(code: Code) -> dict[str, Any]:
    return {"code": ANSWERS[code].number, "message": ANSWERS[code].text}
