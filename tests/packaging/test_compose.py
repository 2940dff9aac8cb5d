"""The image and the containers around it: what is said in several places is the same in all of them.

There is no Docker here. That its nginx serves an exchange is tested in tests/process/test_compose.py.
"""

import configparser
import ipaddress
import re
import shlex
from pathlib import Path

import pytest

from conf.settings import Settings, load
from engine.exchange import Exchange
from engine.opening import capacity_of
from persist import mysql_address
from tests.packaging.compose import PASSWORDS, ROOT, VARIABLE, Document, address, compose

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SIZES = {"mb": 1 << 20, "gb": 1 << 30}


@pytest.fixture
def document() -> Document:
    return compose()


@pytest.fixture
def settings(document: Document, tmp_path: Path) -> Settings:
    """Those of the exchange between the other containers."""
    path = tmp_path / "tradepit.toml"
    path.write_text(document["configs"]["tradepit"]["content"])
    return load(path)


def test_every_variable_is_explained_and_only_passwords_are_needed() -> None:
    wanted = {found[1] for found in VARIABLE.finditer((ROOT / "compose.yaml").read_text())}
    lines = (ROOT / "docker/example.env").read_text().splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(named) == wanted
    assert {name for name, value in named.items() if not value} == set(PASSWORDS)
    assert compose(named | PASSWORDS) == compose()  # the values in the example are the defaults
    for name in PASSWORDS:
        with pytest.raises(KeyError, match=name):
            compose({key: value for key, value in PASSWORDS.items() if key != name})


def test_the_servers_of_the_settings_are_services(document: Document, settings: Settings) -> None:
    services = document["services"]
    store = mysql_address.parse(settings.history.store)
    database = services[store.host]["environment"]
    assert store.port == 3306
    wanted = {"DATABASE": store.database, "USER": store.user, "PASSWORD": store.password}
    assert {f"MARIADB_{name}": text for name, text in wanted.items()}.items() <= database.items()
    kafka, _, port = settings.kafka.brokers.partition(":")
    assert services[kafka]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{kafka}:{port}"
    assert f"PLAINTEXT://:{port}," in services[kafka]["environment"]["KAFKA_LISTENERS"]


def test_the_sentinels_watch_the_master_that_there_is(document: Document, settings: Settings) -> None:
    assert settings.alert.store == settings.market.store
    _, _, hosts, name, _ = settings.market.store.split("/")
    conf = [line.split() for line in document["configs"]["sentinel"]["content"].splitlines()]
    assert {host.split(":")[0] for host in hosts.split(",")} == {f"sentinel-{number}" for number in (1, 2, 3)}
    for host in hosts.split(","):
        service, _, port = host.partition(":")
        assert ["port", port] in conf
        assert document["services"][service]["healthcheck"]["test"][-1] == name
    assert ["sentinel", "monitor", name, address(document, "redis-1"), "6379", "2"] in conf
    following = document["services"]["redis-2"]["command"]
    assert following[following.index("--replicaof") + 1] == f"{address(document, 'redis-1')} 6379"


def test_nginx_is_before_both_gateways(document: Document, settings: Settings) -> None:
    conf, front = (ROOT / "docker/nginx.conf").read_text(), document["services"]["nginx"]
    servers = re.findall(r"^    server (\S+);$", conf, re.MULTILINE)
    ports = [bind.rpartition(":")[2] for bind in (settings.http.bind, settings.ws.bind)]
    assert servers == [f"tradepit:{port}" for port in ports]
    assert front["extra_hosts"] == [f"tradepit:{address(document, 'tradepit')}"]
    assert settings.ws.proxies == (address(document, "nginx"),)
    listened = re.findall(r"^    listen (\d+)", conf, re.MULTILINE)
    assert listened == ["8080", "8090"]
    assert front["ports"] == [f"127.0.0.1:{port}:{port}" for port in listened]
    published = [name for name, service in document["services"].items() if "ports" in service]
    assert published == ["nginx"]


def test_the_state_fits_twice(document: Document, settings: Settings) -> None:
    number, unit = re.fullmatch(r"(\d+)(mb|gb)", document["services"]["tradepit"]["shm_size"]).groups()  # type: ignore[union-attr]
    assert int(number) * SIZES[unit] >= 2 * Exchange.size(capacity_of(settings))


def test_one_service_builds_an_image_of_a_name(document: Document) -> None:
    built = [service["image"] for service in document["services"].values() if "build" in service]
    assert built == ["tradepit:0.1.0"]  # two, which Compose builds at once, end with "already exists"


def test_it_is_given_the_time_to_stop(document: Document, settings: Settings) -> None:
    assert document["services"]["tradepit"]["stop_grace_period"] == "60s"
    assert 3 * settings.supervisor.stop_timeout_s < 60


def test_who_waits_for_whom_can_come_true(document: Document) -> None:
    services = document["services"]
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"
            assert other in services, name
            assert not healthy or "test" in services[other].get("healthcheck", {}), f"{name} waits for {other}"
    assert services["tradepit"]["depends_on"]["tables"] == {"condition": "service_completed_successfully"}
    assert services["tables"]["command"] == shlex.split("pit history init")


def test_what_is_kept_is_in_volumes(document: Document, settings: Settings) -> None:
    used = [
        volume.split(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith("./")
    ]
    assert sorted(used) == sorted(document["volumes"])
    assert f"exchange:{settings.data_dir}" in document["services"]["tradepit"]["volumes"]


def test_addresses_are_in_the_network_and_versions_are_fixed(document: Document) -> None:
    network, others = (
        ipaddress.ip_network(document["networks"]["default"]["ipam"]["config"][0][key])
        for key in ("subnet", "ip_range")
    )
    services = document["services"]
    addresses = [address(document, name) for name, service in services.items() if "networks" in service]
    assert len(set(addresses)) == len(addresses) == 7
    assert others.subnet_of(network)  # type: ignore[arg-type]
    assert all(ipaddress.ip_address(each) in network for each in addresses)
    assert not any(ipaddress.ip_address(each) in others for each in addresses)
    for name, service in services.items():
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+", service["image"]), name
    assert services["tradepit"]["image"] == services["tables"]["image"] == f"tradepit:{_setup()['metadata']['version']}"


def test_every_configuration_that_a_service_gets_is_there(document: Document) -> None:
    for name, service in document["services"].items():
        for config in service.get("configs", ()):
            assert config["source"] in document["configs"], name


def test_the_image_has_settings_of_its_own() -> None:
    settings = load(ROOT / "docker/tradepit.toml")
    ports = [bind.rpartition(":")[2] for bind in (settings.http.bind, settings.ws.bind)]
    assert f"EXPOSE {' '.join(ports)}\n" in DOCKERFILE
    assert f"VOLUME {settings.data_dir}\n" in DOCKERFILE
    target = re.search(r"TRADEPIT_CONF=(\S+)", DOCKERFILE)
    assert target is not None
    assert f"docker/tradepit.toml {target[1]}\n" in DOCKERFILE
    for name in ("tradepit", "tables"):
        assert compose()["services"][name]["configs"] == [{"source": "tradepit", "target": target[1]}]


def test_the_image_gets_all_that_it_is_installed_from() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    taken = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert all((ROOT / name).exists() for name in taken)
    packages = {name.split(".")[0] for name in _setup()["options"]["packages"].split()}
    assert packages | {"setup.cfg", "pyproject.toml", "requirements.lock", "scripts/install"} <= taken
    assert {_setup()["metadata"]["long_description"].removeprefix("file: "), "LICENSE"} <= taken
    assert {name for name in re.findall(r"[\w/.]+", DOCKERFILE) if name.startswith(("docker/", "scripts/"))} <= taken


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser
