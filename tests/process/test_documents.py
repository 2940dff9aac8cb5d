"""The README's first five minutes and the bus page's example, as they stand, against a running exchange."""

import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.exchange import Running, exchange

ROOT = Path(__file__).parents[2]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with exchange(tmp_path) as started:
        yield started


def block(document: str, language: str, first: str) -> str:
    """The code block of a document that starts with these words."""
    blocks: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (found,) = (text for text in blocks if text.startswith(first))
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readmes_calls_do_what_it_says(running: Running) -> None:
    script = block("README.md", "sh", "rpc()").replace("127.0.0.1:8080", running.settings.http.bind)
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    replies = done.stdout.splitlines()
    assert len(replies) == 8
    assert all(reply.startswith('{"error": null') for reply in replies)
    assert '"deal_money": "4000"' in replies[3]  # 2 at the seller's 2000
    assert '{"asks": [], "bids": [["2010", "1"]]}' in replies[4]
    assert '"USD": {"available": "13990", "freeze": "2010"}' in replies[5]
    assert '"ETH": {"available": "1.996", "freeze": "0"}' in replies[5]


def test_the_bot_of_the_bus_page_places_its_order(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "bot.py"
    starts = ("import time", "from bus.client import query", "from bus.eventlog import Reader")
    blocks = [block("docs/bus.md", "python", start) for start in starts]
    script.write_text("".join(blocks), encoding="utf-8")
    monkeypatch.chdir(running.settings.data_dir.parent)  # the example takes the default folder
    left = runpy.run_path(str(script))
    left["client"].close()
    assert capsys.readouterr().out == "['OK', 'OK'] 1\n[]\n1 2\n"
    (order,) = running.call("order.pending", 77, "BTCUSD", 0, 10)["records"]
    assert (order["amount"], order["price"], order["taker_fee"]) == ("0.01", "50000", "0.002")


def test_the_client_of_the_websocket_page_has_a_book(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "book.py"
    text = block("docs/websocket.md", "python", "from websockets.sync.client")
    script.write_text(text.replace("127.0.0.1:8090", running.settings.ws.bind), encoding="utf-8")
    runpy.run_path(str(script))
    assert capsys.readouterr().out == "0 [] [] 0\n"
