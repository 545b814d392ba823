"""A job's settings, from a dictionary into the message that the service takes."""
from __future__ import annotations

import difflib
from typing import Any, List, Mapping, NamedTuple, Tuple

from google.protobuf import json_format


class Violation(NamedTuple):
    field: str        # "sample.num_steps"
    description: str  # what is wrong with it, and what would do


def read_settings(settings: Mapping[str, Any], message: Any) -> List[Violation]:
    """Sets `message`, and returns what it could not set: all faults at once. A name that is misspelt comes with the
    nearest one. Ranges and choices are the service's to check."""
    violations: List[Violation] = []
    _read_section(settings, message, "", violations)
    return violations


def _read_section(settings: Mapping[str, Any], message: Any, prefix: str, violations: List[Violation]) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for key, value in settings.items():
        path = f"{prefix}{key}"
        field = fields.get(key)
        if field is None:
            near = difflib.get_close_matches(str(key), list(fields), 1)
            known = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(fields)}"
            violations.append(Violation(path, f"unknown setting `{path}`; {known}"))
            continue
        for number, section in _sections(field, value):
            item = getattr(message, key)
            if number is not None:
                _read_section(section, item.add(), f"{path}[{number}].", violations)
            else:
                item.SetInParent()
                _read_section(section, item, f"{path}.", violations)
        if not _sections(field, value):
            try:
                json_format.ParseDict({key: value}, message)
            except json_format.ParseError as error:
                violations.append(Violation(path, f"`{path}`: {error}"))


def _sections(field: Any, value: Any) -> List[Tuple[Any, Mapping[str, Any]]]:
    """The sections of settings that a value is, with their numbers in a list; none: the value is no section."""
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return []
    if isinstance(value, Mapping):
        return [(None, value)]
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        return list(enumerate(value))
    return []
