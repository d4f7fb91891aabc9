"""A pydantic model as a tree of fields; what no schema can bound is refused with its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeAlias

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema

from nemoflows.errors import BadInput
from nemoflows.schemas.scalars import Scalar, number, text


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that stands in the passage and comes with its quote."""

    scalars: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant, such as a discriminator: nothing to be found for it."""

    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    item: Node
    at_least: int = 0
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A named part of a record."""

    name: str
    node: Node
    description: str = ""
    required: bool = True
    nullable: bool = False

    @property
    def needed(self) -> bool:
        """Return whether the record is nothing without it."""
        return self.required and not self.nullable


@dataclass(frozen=True, slots=True)
class Record:
    """A pydantic model, dataclass or typed dictionary."""

    fields: tuple[Field, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """Records told apart by the constant in their field `tag`."""

    tag: str
    records: tuple[Record, ...]

    def record(self, tag: object) -> Record | None:
        """Return the record whose tag has this value."""
        for record in self.records:
            for field in record.fields:
                if field.name == self.tag and field.node == Fixed(tag):  # type: ignore[arg-type]
                    return record
        return None


Node: TypeAlias = Leaf | Fixed | Many | Record | Choices


def record_of(model: type[BaseModel]) -> Record:
    """Return the tree of a model's fields.

    Raises:
        BadInput: A field cannot be bounded, or its value could not cross Flyte's edge.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BadInput(f"{model!r} is no pydantic model. Give a class that derives from BaseModel.")
    try:
        schema = model.model_json_schema(by_alias=False, schema_generator=_Plain)
        aliased = model.model_json_schema(schema_generator=_Plain)
    except PydanticUserError as error:
        raise BadInput(f"{model.__name__} has no JSON schema: {error.message}") from error
    by_name = model.model_config.get("validate_by_name") or model.model_config.get(
        "populate_by_name"
    )
    if schema != aliased and not by_name:
        raise BadInput(
            f"{model.__name__} has aliases: Flyte writes it by its fields' names and could not "
            "read it back. Set validate_by_name=True in its model_config, or drop the aliases."
        )
    found = _Reader(model.__name__, schema.get("$defs", {})).read(schema, "", ())
    if not isinstance(found.node, Record):
        raise BadInput(f"{model.__name__} is no model with fields. Give it at least one.")
    return found.node


class _Plain(GenerateJsonSchema):
    """pydantic's schema, with decimals as the strings that keep their digits."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  (as pydantic declares it)
        "skipped-choice",
        "non-serializable-default",
    }

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Return a string: a JSON number would lose digits and currency documents need them."""
        del schema
        return {"type": "string", "format": "decimal"}


@dataclass(frozen=True, slots=True)
class _Found:
    node: Node
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a JSON schema of pydantic's; `path` is where it stands, `seen` what encloses it."""

    model: str
    definitions: Mapping[str, Any]

    def read(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> _Found:
        if "$ref" in schema:
            return self._referred(schema, path, seen)
        options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
        if options:
            return self._union(schema, options, path, seen)
        return _Found(self._node(schema, path, seen), description=schema.get("description", ""))

    def _referred(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> _Found:
        name = schema["$ref"].rpartition("/")[2]
        if name in seen:
            self._refuse(path, f"{name} contains itself, so that nothing bounds its depth", "")
        found = self.read(self.definitions[name], path, (*seen, name))
        return replace(found, description=schema.get("description", found.description))

    def _union(
        self, schema: dict[str, Any], options: list[Any], path: str, seen: tuple[str, ...]
    ) -> _Found:
        read = [self.read(option, path, seen) for option in options]
        nullable = len(options) < len(schema["anyOf"]) or any(each.nullable for each in read)
        said = schema.get("description") or next(filter(None, (r.description for r in read)), "")
        if len(read) == 1:
            node = read[0].node
            if isinstance(node, Fixed):  # one value or none is a choice, and has to be found
                node = Leaf((Scalar("choice", choices=(node.value,)),))
            return _Found(node, nullable=nullable, description=said)
        scalars: list[Scalar] = []
        for each in read:
            if not isinstance(each.node, Leaf):
                self._refuse(
                    path,
                    "a union of models or lists cannot be told apart in a reply",
                    "Give the models a Literal field and the union Field(discriminator=…).",
                )
            scalars += each.node.scalars
        return _Found(Leaf(tuple(scalars)), nullable=nullable, description=said)

    def _node(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> Node:
        if "const" in schema:
            return Fixed(schema["const"])
        if "enum" in schema:
            choices = tuple(each for each in schema["enum"] if each is not None)
            return Leaf((Scalar("choice", choices=choices),))
        kinds: dict[str, Callable[[], Node]] = {
            "union": lambda: self._choices(schema, path, seen),
            "array": lambda: self._many(schema, path, seen),
            "object": lambda: self._record(schema, path, seen),
            "string": lambda: Leaf((self._text(schema, path),)),
            "integer": lambda: Leaf((number(schema, "integer"),)),
            "number": lambda: Leaf((number(schema, "number"),)),
            "boolean": lambda: Leaf((Scalar("boolean"),)),
        }
        kind = "union" if schema.get("discriminator") else schema.get("type", "")
        return kinds.get(kind, lambda: self._free(path))()

    def _choices(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> Node:
        tag = schema["discriminator"]["propertyName"]
        read = [self.read(option, path, seen).node for option in schema["oneOf"]]
        records = tuple(each for each in read if isinstance(each, Record))
        told = [f for each in records for f in each.fields if f.name == tag]
        if len(told) < len(read) or not all(isinstance(field.node, Fixed) for field in told):
            self._refuse(path, f"each model of the union needs one constant `{tag}`", "")
        return Choices(tag, records)

    def _many(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> Node:
        if "prefixItems" in schema:
            self._refuse(
                path, "a tuple's places have no names", "Use a model with a field for each."
            )
        item = self.read(schema.get("items", {}), f"{path}[]", seen).node
        return Many(item, schema.get("minItems", 0), schema.get("maxItems"))

    def _record(self, schema: dict[str, Any], path: str, seen: tuple[str, ...]) -> Node:
        named = schema.get("properties", {})
        if schema.get("additionalProperties") or not named:
            self._free(path)
        fields = []
        for name, inner in named.items():
            found = self.read(inner, f"{path}.{name}" if path else name, seen)
            nullable = found.nullable or None in inner.get("enum", ())
            required = name in schema.get("required", ())
            fields.append(Field(name, found.node, found.description, required, nullable))
        return Record(tuple(fields), schema.get("description", ""))

    def _text(self, schema: dict[str, Any], path: str) -> Scalar:
        form = schema.get("format", "")
        if form in {"binary", "base64", "base64url"}:
            self._refuse(path, "bytes do not stand in a text", "Use str.")
        return text(schema)

    def _free(self, path: str) -> NoReturn:
        self._refuse(
            path,
            "Any, dict and models with extra fields leave the reply's shape open: strict APIs "
            "turn it into an empty object without a word",
            "Name the fields in a model, or use a list of models with a key and a value.",
        )

    def _refuse(self, path: str, why: str, remedy: str) -> NoReturn:
        place = f"{self.model}.{path}" if path else self.model
        raise BadInput(f"{place} cannot be extracted: {why}. {remedy}".rstrip())
