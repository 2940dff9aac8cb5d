"""How a setting is declared, checked and described: its type, range and meaning in one place.

A section of settings is a frozen dataclass whose fields are made by `setting`. What it takes is checked when it is
made, from a file or in code; what is refused is named with its key and what is needed.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

S = TypeVar("S", bound="Section")
_WORDS: Mapping[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text in quotes",
    tuple[str, ...]: "a list of texts in quotes",
    tuple[int, ...]: "a list of integers",
    dict[str, str]: "a table of texts in quotes",
    Path: "a path in quotes",
}


class BadSettings(ValueError):
    """A setting can't be used: the text names the file, the key and what is needed."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a setting means and which values it takes, beyond its type."""

    about: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    form: Callable[[Any], bool] | None = None
    form_text: str = ""
    is_secret: bool = False  # it may hold a password: it is never shown


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of settings. Making one checks every value; raises BadSettings with the key and what is needed."""

    def __post_init__(self) -> None:
        for name, kind, rule in rules(type(self)):
            value = getattr(self, name)
            if not accepts(kind, rule, value):
                shown = "what it is set to" if rule.is_secret else repr(_shown(value))
                raise BadSettings(f"{name}: {needed(kind, rule)} is needed, not {shown}")


def _shown(value: object) -> object:
    """A refused value, without what may be a password."""
    if isinstance(value, str) and "://" in value and "@" in value:
        return value.partition("://")[0] + "://..."
    return value


def setting(default: Any, about: str, **limits: Any) -> Any:
    """A field of a section; `limits` are those of its Rule."""
    metadata = {"rule": Rule(about=about, **limits)}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def named_section(kind: Any) -> type[Section] | None:
    """The section that a table of sections, `dict[str, section]`, has for each name; None for any other type."""
    each = get_args(kind)[1] if get_origin(kind) is dict else None
    return each if isinstance(each, type) and issubclass(each, Section) else None


def parse(section: type[S], document: Mapping[str, Any], where: str = "") -> S:
    """Check a decoded TOML document and make a section of it; `where` goes before its keys. Raises BadSettings."""
    kinds = get_type_hints(section)
    for key in document:
        if key not in kinds:
            raise BadSettings(_unknown(where + key, list(kinds), where))
    values = {key: _value(kinds[key], value, where + key) for key, value in document.items()}
    try:
        return section(**values)
    except BadSettings as error:
        raise BadSettings(f"{where}{error}") from None


def _value(kind: Any, value: Any, key: str) -> Any:
    """A decoded TOML value as the type of its setting; a wrong one is left for the section to refuse."""
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise BadSettings(f"{key}: a section is needed, [{key}], not {value!r}")
        return parse(cast(type[Section], kind), value, f"{key}.")
    if (each := named_section(kind)) is not None:
        if not isinstance(value, Mapping):
            raise BadSettings(f"{key}: sections are needed, [{key}.NAME], not {value!r}")
        return {name: _value(each, part, f"{key}.{name}") for name, part in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def _unknown(key: str, known: list[str], where: str) -> str:
    near = difflib.get_close_matches(key.removeprefix(where), known, n=1)
    if near:
        return f"{key}: there is no such setting; the nearest is {where}{near[0]}"
    return f"{key}: there is no such setting; there are {', '.join(where + name for name in known)}"


def rules(section: type[Section]) -> list[tuple[str, Any, Rule]]:
    """The settings that stand in `section` itself: name, type and rule of each."""
    kinds = get_type_hints(section)
    return [(f.name, kinds[f.name], f.metadata["rule"]) for f in fields(section) if "rule" in f.metadata]


def accepts(kind: Any, rule: Rule, value: object) -> bool:
    """Whether `value` has the type and keeps the rule of a setting."""
    if kind in (tuple[str, ...], tuple[int, ...]):
        is_right = isinstance(value, tuple) and all(type(item) is get_args(kind)[0] for item in value)
        return is_right and (rule.form is None or all(map(rule.form, cast(tuple[str, ...], value))))
    if kind is Path:
        return isinstance(value, Path)
    if kind == dict[str, str]:
        is_table = isinstance(value, dict) and all(type(text) is str for text in value.values())
        return is_table and (rule.form is None or rule.form(value))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        return False
    if isinstance(value, str):
        return (not rule.choices or value in rule.choices) and (rule.form is None or rule.form(value))
    if isinstance(value, int | float):
        return (rule.least is None or value >= rule.least) and (rule.most is None or value <= rule.most)
    return True


def needed(kind: Any, rule: Rule) -> str:
    """What a setting takes, in words."""
    if rule.choices:
        return " or ".join(f"`{choice}`" for choice in rule.choices)
    if rule.form_text:
        return rule.form_text
    word = _WORDS[kind]
    return word if rule.least is None else f"{word} from {rule.least} to {rule.most}"
