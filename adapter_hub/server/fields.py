"""Fields of requests that need more than a type: texts in parts, prompts, and what is not supported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_STOPS = 16

# The type that failures.py answers as "is not supported here", as for fields that nobody has heard of.
_UNSUPPORTED = "extra_forbidden"


class Fields(BaseModel):
    """An object of a request: what it does not name is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


def _refuse_but(*neutral: object) -> Any:
    """A field that may only say what would happen without it."""

    def check(value: object) -> object:
        if not any(type(value) is type(one) and value == one for one in neutral):
            raise PydanticCustomError(_UNSUPPORTED, "is not supported here")
        return None

    return BeforeValidator(check)


Unsupported = Annotated[None, _refuse_but(None)]
NoneOf = Annotated[
    None, _refuse_but(None, []), WithJsonSchema({"anyOf": [{"type": "array", "maxItems": 0}, {"type": "null"}]})
]
NotAsked = Annotated[None, _refuse_but(None, False), WithJsonSchema({"enum": [False, None]})]
ExactlyOne = Annotated[None, _refuse_but(None, 1), WithJsonSchema({"enum": [1, None]})]
NoTool = Annotated[None, _refuse_but(None, "none"), WithJsonSchema({"enum": ["none", None]})]
UsualTier = Annotated[None, _refuse_but(None, "auto", "default"), WithJsonSchema({"enum": ["auto", "default", None]})]
TextAlone = Annotated[
    None,
    _refuse_but(None, ["text"]),
    WithJsonSchema(
        {"anyOf": [{"type": "array", "items": {"const": "text"}, "minItems": 1, "maxItems": 1}, {"type": "null"}]}
    ),
]


class TextPart(Fields):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


def _content(value: object) -> object:
    if not isinstance(value, list):
        return value
    texts = []
    for k, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise PydanticCustomError(
                "unsupported_part", "part {k} is of type {kind}, only text is supported", {"k": k, "kind": repr(kind)}
            )
        if kind != "text" or not isinstance(part.get("text"), str) or part.keys() != {"type", "text"}:
            raise PydanticCustomError("malformed_part", 'part {k} is not {{"type": "text", "text": "..."}}', {"k": k})
        texts.append(part["text"])
    return "\n".join(texts)


# A text, or parts that are joined by line breaks.
Content = Annotated[str, BeforeValidator(_content, json_schema_input_type=str | list[TextPart])]


def _one_of(kind: Any, said: str) -> Any:
    """Hold a value against a union, and say in one sentence what it may be."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: object) -> object:
        try:
            return adapter.validate_python(value)
        except ValueError as error:
            raise PydanticCustomError("malformed", "{said}", {"said": said}) from error

    return Annotated[Any, BeforeValidator(check, json_schema_input_type=kind)]


TokenIds = Annotated[list[StrictInt], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
Prompts = _one_of(
    str | TokenIds | Texts | Annotated[list[TokenIds], Field(min_length=1)],
    "must be a text, a list of texts, token ids, or a list of lists of token ids",
)
StopText = Annotated[str, Field(min_length=1)]
Stops = _one_of(
    StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None,
    f"must be a text that is not empty, or a list of at most {MAX_STOPS} of them",
)


class StreamOptions(Fields):
    """How a stream ends."""

    include_usage: bool | None = None
    include_obfuscation: NotAsked = None


class TextFormat(Fields):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Fields):
    """A JSON object, of whatever content."""

    type: Literal["json_object"]


class NamedSchema(Fields):
    """A JSON schema with its name. ``strict`` changes nothing: every schema is held to."""

    name: str = Field(max_length=256)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class SchemaFormat(Fields):
    """JSON that a schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]
