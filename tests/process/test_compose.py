"""Parts of compose.yaml with real servers: its nginx before a whole exchange, its Redis and Sentinels."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.market.sentinels import until
from tests.packaging.compose import address, compose
from tests.process.exchange import PATIENCE_S, REPLY_TIMEOUT_S, exchange, free_ports
from tests.process.nginx import HOST, Front, changed, composed_nginx
from tests.process.ws_client import PLAIN, Client

SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
BODY = json.dumps({"id": 5, "method": "market.list", "params": []}).encode()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("compose")
    with exchange(folder) as running, composed_nginx(folder / "nginx", running.settings) as front:
        yield front


def status(front: Front, method: str, target: str, origin: str) -> int:
    connection = http.client.HTTPConnection(HOST, front.plain_port, timeout=REPLY_TIMEOUT_S)
    try:
        connection.request(method, target, BODY if method == "POST" else None, {"Origin": origin})
        return connection.getresponse().status
    finally:
        connection.close()


def test_json_rpc_and_market_data(front: Front) -> None:
    reply = front.plain_request("POST", "/", BODY)
    assert (reply.status, json.loads(reply.body)["id"]) == (200, 5), front.log()
    assert front.plain_request("GET", "/health").status == 200
    assert front.plain_request("GET", "/pairs").status == 200


@pytest.mark.parametrize(
    ("method", "target", "wanted"), [("POST", "/", 403), ("POST", "/pairs", 403), ("GET", "/pairs", 200)]
)
def test_pages_in_browsers_get_market_data_only(front: Front, method: str, target: str, wanted: int) -> None:
    assert status(front, method, target, "https://elsewhere.example.com") == wanted


@pytest.mark.parametrize("path", ["/", "/ws"])
def test_websocket(front: Front, path: str) -> None:
    with connect(f"ws://{front.bind}{path}", **PLAIN) as socket:
        assert Client(socket).call("server.ping") == "pong"


def test_redis_and_sentinels_are_healthy_as_they_are_configured(tmp_path: Path) -> None:
    document = compose()
    services = document["services"]
    names = ("redis-1", "redis-2", *SENTINELS)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    master = f"{address(document, 'redis-1')} 6379"
    sentinel_conf = changed(document["configs"]["sentinel"]["content"], {master: f"{HOST} {ports['redis-1']}"})
    with ExitStack() as undo:
        for name in names:
            folder = tmp_path / name
            folder.mkdir()
            words = [word.replace(master, f"{HOST} {ports['redis-1']}") for word in services[name]["command"]]
            if name in SENTINELS:
                own = {"port 26379": f"port {ports[name]}", "dir /data": f"dir {folder}"}
                (tmp_path / f"{name}.conf").write_text(changed(sentinel_conf, own))
                words[-1] = changed(words[-1], {"/etc/sentinel.conf": f"'{tmp_path / name}.conf'"})
            else:
                words += ["--port", str(ports[name]), "--bind", HOST]
            undo.enter_context(_served(words, folder))
        for name in names:
            port = ["-p", str(ports[name])]
            asked = [word for word in services[name]["healthcheck"]["test"][1:] if word not in ("-p", "26379")]
            until(partial(_is_done, [asked[0], *port, *asked[1:]]), PATIENCE_S, partial(_logs, tmp_path))


@contextmanager
def _served(command: list[str], folder: Path) -> Iterator[None]:
    """A server in a folder of its own, which is killed at the end. Skips the test where it is not installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with (
        folder.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.kill()


def _is_done(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0


def _logs(folder: Path) -> str:
    return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in folder.glob("*.log"))
