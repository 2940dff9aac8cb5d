"""docs/configuration.md is what the declarations say, and leaves nothing out."""

from dataclasses import fields
from pathlib import Path

from conf.reference import reference
from conf.rules import Section
from conf.settings import Settings, every_section, sections

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == reference(), "run: python -m conf.reference > docs/configuration.md"


def test_the_page_is_complete() -> None:
    text = PAGE.read_text()
    named = dict(sections())
    parts = {name.removesuffix(".NAME") for name in named}
    for owner, section in (("The top of the file", Settings), *named.items()):
        part = text.split(f"[{owner}]\n" if owner in named else owner)[1].split("\n## ")[0]
        for field in fields(section):
            assert field.name in parts or f"| `{field.name}` |" in part, f"{owner}.{field.name}"


def test_every_setting_has_a_rule_or_is_a_section() -> None:
    parts = {name.removesuffix(".NAME") for name, _ in sections()}
    for section in every_section():
        assert issubclass(section, Section)
        for field in fields(section):
            assert "rule" in field.metadata or field.name in parts, field.name
            assert "rule" not in field.metadata or field.metadata["rule"].about
