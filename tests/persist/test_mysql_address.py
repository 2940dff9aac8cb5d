"""The address of a MySQL server: what the setting lets through is understood, and the password stays a secret."""

import pytest

from conf.rules import BadSettings
from conf.settings import History
from persist.mysql_address import Address, parse
from persist.store import StoreWrong


def address(host: str, port: int, user: str, password: str, database: str) -> Address:
    return Address(host=host, port=port, user=user, password=password, database=database)


@pytest.mark.parametrize(("store", "wanted"), [
    ("mysql://u:p@db.example", address("db.example", 3306, "u", "p", "trade_history")),
    ("mysql://u@10.0.0.1:3307/", address("10.0.0.1", 3307, "u", "", "trade_history")),
    ("mysql://u:@h/d_1", address("h", 3306, "u", "", "d_1")),
    ("mysql://u%40x:%3A%2F%25%C3%9F%20@h:1/D", address("h", 1, "u@x", ":/%ß ", "D")),
    ("mysql://u:a:b?c#d[e&f=g%zz@h:65535/d", address("h", 65535, "u", "a:b?c#d[e&f=g%zz", "d")),
    ("mysql://:@H", address("H", 3306, "", "", "trade_history")),
])  # fmt: skip
def test_an_address_is_taken_apart(store: str, wanted: Address) -> None:
    assert parse(History(store=store).store) == wanted
    for text in (str(parse(store)), repr(parse(store))):
        assert wanted.password not in text or wanted.password in ("", "p")


@pytest.mark.parametrize("store", ["mysql://u:p@h:0", "mysql://u:p@h:65536", "mysql://u:p@h:99999/d"])
def test_the_settings_refuse_a_port_that_is_none(store: str) -> None:
    with pytest.raises(BadSettings):
        History(store=store)


@pytest.mark.parametrize(
    "store", ["mysql://h", "mysql://u:p@h/d-1", "mysql://u:p@h/d;x", "mysql://u:p@h:1:2", "sqlite"]
)
def test_what_is_no_address_is_refused(store: str) -> None:
    with pytest.raises(StoreWrong):
        parse(store)


def test_the_settings_refuse_what_could_break_out_of_a_statement() -> None:
    with pytest.raises(BadSettings):
        History(store="mysql://u:p@h/d`x")
