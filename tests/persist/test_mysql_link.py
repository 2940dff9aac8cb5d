"""What a server says becomes one of two things: it is down, so try again, or it is wrong, so somebody must act."""

import pymysql
import pytest

from persist.mysql_address import parse
from persist.mysql_link import explained
from persist.store import StoreDown, StoreWrong

ADDRESS = parse("mysql://u:secret@h/d")


@pytest.mark.parametrize("number", [
    0, 28, 1021, 1030, 1040, 1041, 1053, 1114, 1129, 1158, 1161, 1180, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1792,
    1836, 1927, 1969, 2003, 2006, 2013, 2014, 3024, 3100, 4031, 99_999,
])  # fmt: skip
def test_what_may_pass_is_down(number: int) -> None:
    assert type(explained(pymysql.err.OperationalError(number, "it says"), ADDRESS)) is StoreDown


@pytest.mark.parametrize(("number", "advice"), [
    (1044, "GRANT"), (1045, "password"), (1142, "GRANT"), (1698, "password"), (1862, "password"), (2059, "password"),
    (1049, "pit history init"), (1146, "pit history init"),
    (1054, "as `pit history init` makes it"), (1136, "makes it"), (1364, "makes it"), (4025, "makes it"),
    (1064, "is needed"), (1193, "is needed"), (1115, "is needed"),
])  # fmt: skip
def test_what_stays_is_wrong_and_there_is_something_to_do(number: int, advice: str) -> None:
    error = explained(pymysql.err.OperationalError(number, "it says"), ADDRESS)
    assert type(error) is StoreWrong
    assert str(error).startswith("mysql://u@h:3306/d: it says; ")
    assert advice in str(error)


@pytest.mark.parametrize("error", [
    pymysql.err.InterfaceError(0, ""), pymysql.err.InternalError("Packet sequence number wrong"), pymysql.err.Error(),
])  # fmt: skip
def test_so_is_what_has_no_number(error: pymysql.err.Error) -> None:
    assert type(explained(error, ADDRESS)) is StoreDown
    assert "secret" not in str(explained(error, ADDRESS))
