"""What is known of a class of items: its fields, and the path by which it is told from others."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from itemadapter import ItemAdapter

_NEAR = 0.6  # of difflib's 1 for the same name


@lru_cache(maxsize=1000)
def declared(cls: type) -> frozenset[str] | None:
    """The names of the fields that its items may have; None: any, as with dicts."""
    config = getattr(cls, "model_config", None)  # of a pydantic model
    if isinstance(config, dict) and config.get("extra") == "allow":
        return None
    names = ItemAdapter.get_field_names_from_class(cls)
    return None if names is None else frozenset(names)


@lru_cache(maxsize=1000)
def attributes(cls: type) -> frozenset[str]:
    """The fields that are attributes: of a dataclass, an attrs class, a pydantic model."""
    try:
        return frozenset(ItemAdapter.get_field_names_from_class(cls) or ())
    except TypeError:  # no class of items: a text, a number, None
        return frozenset()


def extra_fields(item: Any) -> Iterable[tuple[str, Any]]:
    """Fields of a pydantic model that are not declared, where its class allows them."""
    extra = getattr(item, "__pydantic_extra__", None)
    return extra.items() if isinstance(extra, dict) else ()


def nearest(name: str, names: Iterable[str]) -> str:
    """What may have been meant instead of a name that is not among these; empty if nothing is."""
    listed = sorted(names)
    lowered = {other.lower(): other for other in listed}
    close = difflib.get_close_matches(name.lower(), lowered, 1, _NEAR)
    if close:
        return f"did you mean {lowered[close[0]]!r}?"
    return f"it has {', '.join(listed)[:200]}" if listed else ""


def class_path(cls: type) -> str:
    """Module and name, ``dict`` for plain dicts; the same in every process that has the class.

    The script that Python runs has the name of its file, as if it were imported: a spider may be
    run by ``python posts.py`` and by ``scrapy runspider posts.py``.
    """
    if cls is dict:
        return "dict"
    module = cls.__module__
    if module in ("__main__", "__mp_main__"):
        main = sys.modules.get(module)
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name
        elif file is not None:
            module = PurePath(file).stem
    return f"{module}:{cls.__qualname__}"
