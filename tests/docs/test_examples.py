"""The Python blocks of the documents run as they stand, one after the other, in one namespace a document."""

import re
from pathlib import Path

import pytest

from bus.book import checksum
from gateways.reference import reference
from gateways.ws import reference as ws_reference

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str) -> list[str]:
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


def test_the_engine_can_be_driven_as_its_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    for block in blocks("docs/engine.md"):
        exec(compile(block, "docs/engine.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["[0 0 0 0]", "2 1.0"]
    assert "[5000000] [200000000]" in printed
    assert "ORDER_BALANCE_NOT_ENOUGH" in printed
    assert "USD 349900.0" in printed  # 500,000 less 2 x 50,000, less 50,100 frozen for the rest
    assert "BTC 1.996" in printed  # 2 less 0.2 %


def test_the_page_of_http_methods_is_what_the_method_table_says() -> None:
    written = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert written == reference() + "\n", "run `python -m gateways.reference > docs/api.md`"


def test_the_page_of_websocket_methods_is_what_the_method_table_says() -> None:
    written = (ROOT / "docs/websocket.md").read_text(encoding="utf-8")
    assert ws_reference.reference() in written, "put what `python -m gateways.ws.reference` prints there"


def test_the_checksums_of_the_websocket_page_follow_its_rule() -> None:
    written = (ROOT / "docs/websocket.md").read_text(encoding="utf-8")
    found = [int(number) for number in re.findall(r'"checksum": (\d+)', written)]
    before, after = [["100.2", "1.8"]], [["99.5", "0.38"]]
    assert found == [checksum(before, after), checksum([], after)]
