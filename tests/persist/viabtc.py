"""The tables of the history as ViaBTC's own scripts make them (CONTRACT 7.2): narrow columns, utf8 of three bytes."""

from persist.mysql_schema import FAMILIES, tables

_ORDER = (
    "user_id INT UNSIGNED NOT NULL, market VARCHAR(30) NOT NULL, source VARCHAR(30) NOT NULL, "
    "t TINYINT UNSIGNED NOT NULL, side TINYINT UNSIGNED NOT NULL, "
    "price DECIMAL(30,8) NOT NULL, amount DECIMAL(30,8) NOT NULL, "
    "taker_fee DECIMAL(30,4) NOT NULL, maker_fee DECIMAL(30,4) NOT NULL, "
    "deal_stock DECIMAL(30,8) NOT NULL, deal_money DECIMAL(30,16) NOT NULL, deal_fee DECIMAL(30,16) NOT NULL"
)
_ORDER_START = "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, create_time DOUBLE NOT NULL, finish_time DOUBLE NOT NULL"
_START = "id BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, time DOUBLE NOT NULL, user_id INT UNSIGNED NOT NULL"
_IDS = "deal_id BIGINT UNSIGNED NOT NULL, order_id BIGINT UNSIGNED NOT NULL, deal_order_id BIGINT UNSIGNED NOT NULL"
_ROLE = "role TINYINT UNSIGNED NOT NULL"
_NUMBERS = (
    "price DECIMAL(30,8) NOT NULL, amount DECIMAL(30,8) NOT NULL, deal DECIMAL(30,16) NOT NULL, "
    "fee DECIMAL(30,16) NOT NULL, deal_fee DECIMAL(30,16) NOT NULL"
)
DEFINITIONS = {
    "balance_history": f"{_START}, asset VARCHAR(30) NOT NULL, business VARCHAR(30) NOT NULL, "
    "`change` DECIMAL(30,8) NOT NULL, balance DECIMAL(30,16) NOT NULL, detail TEXT NOT NULL, "
    "INDEX idx_user_asset (user_id, asset), INDEX idx_user_asset_business (user_id, asset, business)",
    "order_history": f"{_ORDER_START}, {_ORDER}, INDEX idx_user_market (user_id, market)",
    "order_detail": f"{_ORDER_START}, {_ORDER}",
    "deal_history": f"{_START}, {_IDS}, {_ROLE}, {_NUMBERS}, INDEX idx_order (order_id)",
    "user_deal_history": f"{_START}, market VARCHAR(30) NOT NULL, {_IDS}, side TINYINT UNSIGNED NOT NULL, {_ROLE}, "
    f"{_NUMBERS}, INDEX idx_user_market (user_id, market)",
}
SCALES = {"price": 8, "amount": 8, "change": 8, "deal_stock": 8, "taker_fee": 4, "maker_fee": 4}
SCALE = 16  # of all other numbers


def database(name: str) -> str:
    """How the database is made."""
    return f"CREATE DATABASE `{name}` DEFAULT CHARACTER SET utf8 COLLATE utf8_general_ci"


def creation() -> list[str]:
    """How all tables are made, in the database that is used."""
    statements = []
    for family in FAMILIES:
        example, *shards = tables(family)
        definition = DEFINITIONS[family.name]
        statements.append(f"CREATE TABLE {example} ({definition}) ENGINE=InnoDB DEFAULT CHARSET=utf8")
        statements += [f"CREATE TABLE {shard} LIKE {example}" for shard in shards]
    return statements
