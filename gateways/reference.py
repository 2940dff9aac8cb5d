"""The page of HTTP methods, made from the method table: `python -m gateways.reference > docs/api.md`."""

from collections.abc import Mapping
from typing import Any

from bus.codes import ANSWERS, Code
from bus.methods import METHODS, Backend, Method

INTRODUCTION = """\
# The HTTP interface

JSON-RPC by POST, to any path; parameters by position, numbers as decimal text, ids and times as JSON numbers:

```sh
curl -s http://127.0.0.1:8080 -d '{"id": 1, "method": "order.depth", "params": ["BTCUSD", 10, "0"]}'
```

| what comes back | when |
|---|---|
| 200, `{"error": null, "result": ..., "id": 1}` | it was done; a command is on disk then |
| 200, `{"error": {"code": 10, "message": "..."}, "result": null, "id": 1}` | it was refused, and nothing changed |
| 400, no body | not POST, not JSON, or `id` (an integer), `method`, `params` (an array) are not as they should be |
| 404, an error of code 4 | there is no such method |
| 500, no body | the method's service does not run |
| 504, an error of code 5 | no answer came in time; a command may have been done: ask |

An array of up to 1,000 requests, each with a `jsonrpc` member, gets an array of replies, in order; when these come to
4 MiB, the reads that follow are refused with code 3. `GET /health` says whether the matcher answers, `rpc.discover`
and `GET /openrpc.json` describe this interface to programs.

This page is made from the method table (`python -m gateways.reference > docs/api.md`).
"""
_COMMON = (Code.INVALID_ARGUMENT, Code.SERVICE_TIMEOUT)
_COMMON_COMMANDS = (Code.SERVICE_UNAVAILABLE,)
_COMMON_CALLS = (Code.INTERNAL_ERROR, Code.SERVICE_UNAVAILABLE)
_GROUPS = (
    (
        "Trading",
        Backend.ENGINE,
        "What the matcher does, and what it holds now. Those that change something (*) may also answer {commands}.",
    ),
    (
        "History",
        Backend.HISTORY,
        "What has been stored: milliseconds behind the matcher, longer while the store is slow or down. Nothing is "
        "missing then, it comes later. These may also answer {calls}: the store does not answer, or too many ask.",
    ),
    (
        "Market data",
        Backend.MARKET,
        "Made from deals, milliseconds after them; [market-data.md](market-data.md) says more, and what a browser "
        "and other services can GET. These may also answer {calls}.",
    ),
    ("This interface", Backend.GATEWAY, ""),
)


def reference() -> str:
    """The whole page, in Markdown."""
    methods = list(METHODS.values())
    return "\n".join([
        INTRODUCTION,
        "## Methods\n",
        f"Every method may answer {_codes(_COMMON)}.\n",
        *(line for title, backend, about in _GROUPS for line in _group(title, backend, about)),
        "## Parameters\n",
        *_parameters(methods),
    ])


def _group(title: str, backend: Backend, about: str) -> list[str]:
    """A part of the page: the methods that one backend answers."""
    told = about.format(commands=_codes(_COMMON_COMMANDS), calls=_codes(_COMMON_CALLS))
    methods = [method for method in METHODS.values() if method.backend is backend]
    return [
        f"### {title}\n",
        *([f"{told}\n"] if told else []),
        "| method | parameters | refusals of its own |",
        "|---|---|---|",
        *map(_row, methods),
        "",
    ]


def _codes(codes: tuple[Code, ...]) -> str:
    return ", ".join(map(_code, codes))


def _row(method: Method) -> str:
    names = [name for name, _ in method.parameters]
    names += [f"[{name}]" for name, _ in method.optional] + ([f"{method.rest[0]}..."] if method.rest else [])
    star = " *" if method.is_command else ""
    return f"| `{method.name}`{star}<br>{method.about} | {', '.join(names)} | {'<br>'.join(map(_code, method.codes))} |"


def _parameters(methods: list[Method]) -> list[str]:
    known = {
        name: kind.schema
        for method in methods
        for name, kind in (*method.parameters, *method.optional, *filter(None, [method.rest]))
    }
    rows = [f"| {name} | {_schema(schema)} |" for name, schema in sorted(known.items())]
    return ["| parameter | takes |", "|---|---|", *rows]


def _schema(schema: Mapping[str, Any]) -> str:
    kind = "decimal text" if "pattern" in schema else {"string": "text"}.get(schema.get("type", ""), schema.get("type"))
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return ", ".join(filter(None, [kind, *limits, schema.get("description")]))


_LIMITS = {"minimum": "from", "maximum": "to", "maxLength": "bytes up to"}


def _code(code: Code) -> str:
    answer = ANSWERS[code]
    return f"{answer.number} {answer.text}"


if __name__ == "__main__":
    print(reference())
