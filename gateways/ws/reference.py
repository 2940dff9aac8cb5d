"""The methods in docs/websocket.md, made from the table of them: `python -m gateways.ws.reference` prints them."""

from gateways.ws.session import SESSION_METHODS


def reference() -> str:
    """The table, in Markdown; a star marks what needs server.auth or server.sign before."""
    rows = [
        f"| `{name}`{' *' if method.is_private else ''} | {method.params} | {method.about} |"
        for name, method in SESSION_METHODS.items()
        if not name.endswith(".unsubscribe") or method.params
    ]
    return "\n".join(["| method | parameters | |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(reference())
