"""How a Kubernetes object is read: strict types, camelCase keys, and no key that nobody knows. No I/O."""

from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

T = TypeVar("T")
# A YAML list, kept as a tuple; its items are as strict as everything else.
Many = Annotated[tuple[T, ...], Field(strict=False)]


def names(text: str) -> frozenset[str]:
    """Pure. The words of a text, as a set of keys."""
    return frozenset(text.split())


class Fields(BaseModel):
    """An object of a manifest.

    Keys that are declared are typed; keys in `known` are KServe's or Kubernetes' own and are kept as they
    are; any other key is a mistake. Types are strict, as the Kubernetes API has them: `"1"` is no number and
    `1` no string.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", alias_generator=to_camel, validate_by_name=False)
    known: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def allowed_keys(cls) -> frozenset[str]:
        """Every key this object may have, as written in a manifest."""
        return cls.known | {field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, data: Any) -> Any:
        """Name each key nobody knows, with the nearest one that exists."""
        if isinstance(data, dict):
            unknown = [str(key) for key in data if key not in cls.allowed_keys()]
            if unknown:
                raise PydanticCustomError("unknown_key", "{hint}", {"key": unknown[0], "hint": cls._hint(unknown[0])})
        return data

    @classmethod
    def _hint(cls, key: str) -> str:
        by_lower = {k.lower(): k for k in sorted(cls.allowed_keys())}
        near = get_close_matches(key.lower(), by_lower, n=1)
        if near:
            return f"no such field; did you mean {by_lower[near[0]]}?"
        return "no such field; allowed: " + ", ".join(sorted(cls.allowed_keys()))


class ObjectMeta(Fields):
    """`metadata` of a Kubernetes object."""

    known = names(
        "generateName selfLink uid resourceVersion generation creationTimestamp deletionTimestamp "
        "deletionGracePeriodSeconds ownerReferences finalizers managedFields"
    )
    name: str
    namespace: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
