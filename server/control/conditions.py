"""Search's expressions: filters on properties of a record, nested ones, and And/Or of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from server.errors import BadRequest

MOST = 50
"""Filters and subexpressions in one expression, as AWS has it."""
_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": lambda value, wanted: bool(value > wanted),
    "GreaterThanOrEqualTo": lambda value, wanted: bool(value >= wanted),
    "LessThan": lambda value, wanted: bool(value < wanted),
    "LessThanOrEqualTo": lambda value, wanted: bool(value <= wanted),
}
_MEETS: Mapping[str, Callable[[Any, Any], bool]] = {
    **_ORDERED,
    "Equals": lambda value, wanted: bool(value == wanted),
    "Contains": lambda value, wanted: wanted in value,
    "In": lambda value, wanted: value in [part.strip() for part in wanted.split(",")],
}
Record = Mapping[str, Any]


def check(shape: Any, expression: Mapping[str, Any]) -> None:
    """Raises BadRequest for a property that a record of `shape` cannot have, or that is compared as it cannot be."""
    parts = list(_parts(expression))
    if not 1 <= len(parts) <= MOST:
        raise BadRequest(f"A SearchExpression needs 1 to {MOST} filters and subexpressions; it has {len(parts)}.")
    for prefix, condition in parts:
        if condition is None:
            continue
        name = condition["Name"]
        kind = property_type(shape, name)
        if prefix and not name.startswith(f"{prefix}."):
            raise BadRequest(f"Filter {name!r} is not on the nested property {prefix!r}.")
        operator = condition.get("Operator", "Equals")
        if operator in _ORDERED and kind in ("string", "boolean"):
            raise BadRequest(f"{operator} cannot be used on {name!r}, which is text.")
        if operator in ("Contains", "In") and kind != "string":
            raise BadRequest(f"{operator} can only be used on text, which {name!r} is not.")
        if operator not in ("Exists", "NotExists"):
            _wanted(kind, condition)


def property_type(shape: Any, name: str) -> str:
    """Type of the property `name` (dotted) of `shape`; tags are text. Raises BadRequest when there is none."""
    if name.startswith("Tags."):
        return "string"
    inner = shape
    for part in name.split("."):
        while inner.type_name == "list":
            inner = inner.member
        if inner.type_name == "map":
            inner = inner.value
        elif inner.type_name == "structure" and part in inner.members:
            inner = inner.members[part]
        else:
            raise BadRequest(f"{name!r} is no property of {shape.name} to search by.")
    return str(inner.type_name)


def holds(shape: Any, expression: Mapping[str, Any], record: Record) -> bool:
    """Whether a record meets a checked expression."""
    outcomes = [_holds_filter(shape, each, record) for each in expression.get("Filters", ())]
    outcomes += [_holds_nested(shape, each, record) for each in expression.get("NestedFilters", ())]
    outcomes += [holds(shape, each, record) for each in expression.get("SubExpressions", ())]
    return any(outcomes) if expression.get("Operator") == "Or" else all(outcomes)


def values(record: Any, name: str) -> list[Any]:
    """All values of the property `name` of a record; of a list, those of each item."""
    if name.startswith("Tags."):
        key = name.removeprefix("Tags.")
        return [tag["Value"] for tag in record.get("Tags", ()) if tag["Key"] == key]
    found = [record]
    for part in name.split("."):
        found = [item[part] for item in _flat(found) if isinstance(item, Mapping) and item.get(part) is not None]
    return list(_flat(found))


def _flat(found: list[Any]) -> Iterator[Any]:
    for item in found:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _parts(expression: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Every filter with the nested property it is on; None for a part that holds others."""
    for condition in expression.get("Filters", ()):
        yield "", condition
    for nested in expression.get("NestedFilters", ()):
        yield "", None
        for condition in nested["Filters"]:
            yield nested["NestedPropertyName"], condition
    for inner in expression.get("SubExpressions", ()):
        yield "", None
        yield from _parts(inner)


def _holds_nested(shape: Any, nested: Mapping[str, Any], record: Record) -> bool:
    """Whether one item of the nested property meets all filters."""
    prefix = nested["NestedPropertyName"]
    return any(
        all(_holds_filter(shape, condition, _lifted(prefix, item)) for condition in nested["Filters"])
        for item in values(record, prefix)
    )


def _lifted(prefix: str, item: Any) -> Record:
    """A record that has nothing but `item` at `prefix`."""
    for part in reversed(prefix.split(".")):
        item = {part: item}
    lifted: Record = item
    return lifted


def _holds_filter(shape: Any, condition: Mapping[str, Any], record: Record) -> bool:
    name = condition["Name"]
    operator: str = condition.get("Operator", "Equals")
    found = values(record, name)
    if operator in ("Exists", "NotExists"):
        return bool(found) == (operator == "Exists")
    wanted = _wanted(property_type(shape, name), condition)
    if operator == "NotEquals":
        return all(value != wanted for value in found)
    return any(_MEETS[operator](value, wanted) for value in found)


def _wanted(kind: str, condition: Mapping[str, Any]) -> Any:
    """The filter's value as the property has it. Raises BadRequest."""
    name, given = condition["Name"], condition.get("Value")
    if given is None:
        raise BadRequest(f"Filter {name!r} with the operator {condition.get('Operator', 'Equals')} needs a Value.")
    try:
        if kind in ("integer", "long", "float", "double"):
            return float(given)
        if kind == "timestamp":
            moment = datetime.fromisoformat(given)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if kind == "boolean":
            return {"true": True, "false": False}[given.lower()]
    except (ValueError, KeyError):
        raise BadRequest(f"Filter {name!r}: {given!r} is no {kind}.") from None
    if kind != "string":
        raise BadRequest(f"{name!r} holds other properties; name one of those.")
    return given
