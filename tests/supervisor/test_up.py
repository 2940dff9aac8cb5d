"""`pit up` before it starts anything: an address that is taken is told with its setting."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from conf.operations import Admin, Alert
from conf.settings import Bus, History, Http, Settings, Ws
from supervisor.table import processes
from supervisor.up import AddressInUse, refuse_used_addresses
from tests.process.exchange import free_ports


@pytest.mark.parametrize("offset", [0, 3, 4, 5, 68])
def test_every_port_of_the_bus_must_be_free(tmp_path: Path, offset: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] - offset
        settings = Settings(
            data_dir=tmp_path,
            http=Http(bind=f"127.0.0.1:{free_ports(1)[0]}"),
            alert=Alert(bind=""),
            bus=Bus(bind=f"tcp://127.0.0.1:{port}"),
            history=History(processes=2),
        )
        with pytest.raises(AddressInUse, match=r"^bus\.bind: 127\.0\.0\.1:\d+ can't be listened on"):
            refuse_used_addresses(settings)


def test_an_address_of_http_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=f"^http.bind: {bind} can't be listened on"):
            refuse_used_addresses(Settings(data_dir=tmp_path, http=Http(bind=bind)))


def test_the_admin_ports_address_must_be_free_unless_it_is_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        http, ws = (f"127.0.0.1:{port}" for port in free_ports(2))
        settings = Settings(data_dir=tmp_path, http=Http(bind=http), ws=Ws(bind=ws), admin=Admin(bind=bind))
        with pytest.raises(AddressInUse, match=f"^admin.bind: {bind} can't be listened on"):
            refuse_used_addresses(settings)
        refuse_used_addresses(replace(settings, admin=Admin(bind="")))


def test_without_an_address_there_is_no_admin_process() -> None:
    assert "admin" in {wanted.name for wanted in processes(Settings())}
    assert "admin" not in {wanted.name for wanted in processes(Settings(admin=Admin(bind="")))}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_an_address_of_alerts_that_is_taken_is_refused(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        http, ws = (f"127.0.0.1:{port}" for port in free_ports(2))
        settings = Settings(data_dir=tmp_path, http=Http(bind=http), ws=Ws(bind=ws), alert=Alert(bind=bind))
        with pytest.raises(AddressInUse, match=f"^alert.bind: {bind} can't be listened on"):
            refuse_used_addresses(settings)
