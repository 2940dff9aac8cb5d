"""A service of authentication that takes everybody at his word: the token user-7 is user 7 (CONTRACT 5.6)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "user-"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the user."""
        user_id = int(self.headers["Authorization"].removeprefix(TOKEN))
        body = json.dumps({"code": 0, "message": None, "data": {"user_id": user_id}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve meanwhile; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
