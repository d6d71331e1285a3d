"""The laws of kinds: which posts may be the same at all, and what a first day is told of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
import scrapy

from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.model import SettingsError
from tests.support.item_forms import (
    FORMS,
    POST,
    class_of,
    identifier,
    importable,
    key,
    of_one_kind,
    origin,
    post,
    spider_called,
)


class Base(scrapy.Item):
    """An item with two fields."""

    a = scrapy.Field()
    b = scrapy.Field()


class Open(pydantic.BaseModel):
    """A model that takes any field."""

    model_config = {"extra": "allow"}

    a: int


# -- which kind of post ----------------------------------------------------------------------------


def test_names_of_fields_take_part() -> None:
    """A post_id of 7 and a user_id of 7 are two identities, unless both have one kind."""
    post_, user = {"post_id": 7}, {"user_id": 7}
    assert key(post_, fields=["post_id"]) != key(user, fields=["user_id"])
    assert key(post_, fields=["post_id:digits"]) == key(post_, fields=["post_id"])
    assert key(post_, fields=of_one_kind("post_id")) == key(user, fields=of_one_kind("user_id"))


def test_modules_take_part() -> None:
    """Two classes of one name in two modules are two kinds, unless the user gives them one."""
    forums, news = (class_of("dataclass", "Post", {"id": None}) for _ in range(2))
    forums.__module__, news.__module__ = "forums.items", "news.items"
    assert key(forums(7), fields=["id"]) != key(news(7), fields=["id"])
    assert key(forums(7), fields=of_one_kind("id")) == key(news(7), fields=of_one_kind("id"))
    assert key(forums(7), identity=lambda *_: 7) != key(news(7), identity=lambda *_: 7)


@pytest.mark.parametrize(
    "settings",
    [{"fields": ["id"]}, {}, {"identity": lambda *_: 7}],
    ids=["fields", "all", "function"],
)
def test_scope(settings: dict[str, Any]) -> None:
    """Two spiders may have one id by chance: two posts, unless the scope is the project."""
    one, other = spider_called("one"), spider_called("other")
    item = {"id": 7}
    found = key(item, spider=one, **settings)
    assert found == key(item, spider=spider_called("one"), scope="spider", **settings)
    assert found != key(item, spider=other, **settings)
    shared = key(item, spider=one, scope="project", **settings)
    assert shared == key(item, spider=other, scope="project", **settings)
    assert shared != found
    rules = {"*": {"kind": "Post", **({"fields": ["id"]} if "fields" in settings else {})}}
    settings = {**settings, "fields": rules}
    assert key(item, spider=one, **settings) == key(item, spider=other, **settings)


def test_a_kind_is_never_the_origin_of_another() -> None:
    """A kind that is written like the origin of an item is another kind."""
    fields = {"*": {"fields": ["id"], "kind": "dict"}}
    assert key({"id": 1}, fields=fields) != key({"id": 1}, fields=["id"])
    assert digest("dict", [1]) != digest(origin("dict"), [1]) != digest(origin("dict", []), [1])


@pytest.mark.parametrize("way", [["posts.py"], ["-m", "posts"], ["-c", "import posts"]], ids=str)
def test_the_script_that_runs_has_its_name(tmp_path: Path, way: list[str]) -> None:
    """A class has one path whether its file is run, run as a module, or imported."""
    (tmp_path / "posts.py").write_text(
        "from scrapy_valkey_dedup.identity.item_classes import class_path\n"
        "class Post: pass\n"
        "print(class_path(Post))\n"
    )
    command, places = [sys.executable, *way], {"PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, cwd=tmp_path, env=places, capture_output=True, text=True)
    assert ran.stdout == "posts:Post\n"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["b"], digest(origin(POST, ["a"]), ["1"])),
        ({"*": {"fields": ["b"], "kind": "thing"}}, digest(origin(POST, ["a"]), ["1"])),
        ({"*": {"kind": "thing"}}, digest("thing", ["1"])),
        ({"posts.items.Post": {"kind": "thing"}, "*": ["b"]}, digest("thing", ["1"])),
        ({"posts.items.Post": {"fields": ["b"], "kind": "thing"}}, digest("thing", ["2"])),
        ({"posts.items.Post": ["b"], "*": {"kind": "thing"}}, digest(origin(POST, ["b"]), ["2"])),
    ],
    ids=str,
)
def test_metadata_and_settings(rules: Any, expected: bytes) -> None:
    """Metadata wins over the rule for all classes and its kind, the class's own rule over both."""
    cls = class_of("dataclass", "Post", {"a": True, "b": None})
    with importable("posts.items", Post=cls):
        assert key(cls("1", "2"), fields=rules) == expected


def test_scope_is_told(warnings: Callable[[], list[str]]) -> None:
    """One line says that posts are told apart within a spider, and the cure, if it matters."""
    identifier().announce()
    (line,) = warnings()
    assert "VALKEY_DEDUP_SCOPE = 'spider'" in line
    assert 'set it to "project"' in line
    identifier(fields=["id"]).announce()
    identifier(fields={"dict": {"fields": ["id"], "kind": "Post"}}).announce()
    assert len(warnings()) == 3
    identifier(scope="project").announce()
    identifier(fields=of_one_kind("id")).announce()
    assert len(warnings()) == 3


@pytest.mark.parametrize("form", [*FORMS, "dict"])
def test_all_fields_are_told(form: str, warnings: Callable[[], list[str]]) -> None:
    """Where no rule decides, one warning for the class says that all fields count, and the cure."""
    it = identifier()
    for likes in range(3):
        assert it.key(post(form, id=1, likes=likes), None) is not None
    (line,) = warnings()
    assert f"Items of class {'dict' if form == 'dict' else 'Post'} are identified by all" in line
    assert 'VALKEY_DEDUP_FIELDS = ["platform", "post_id"]' in line
    assert key(post(form, id=1), fields=["id"]) is not None
    assert key(post(form, id=1), identity=lambda *_: 7) is not None
    assert len(warnings()) == 1


@pytest.mark.parametrize("form", FORMS)
def test_undeclared_fields(form: str, warnings: Callable[[], list[str]]) -> None:
    """A field that the class does not declare is named once, with the nearest one and the harm."""
    it = identifier(fields=["platform", "pots_id"])
    for number in range(3):
        assert it.key(post(form, platform="x", post_id=number), None) is None
    (line,) = warnings()
    assert "Post has no field 'pots_id'; did you mean 'post_id'?" in line
    assert "stored unchecked, again in every run (VALKEY_DEDUP_ON_UNKEYED = 'pass')" in line
    assert key(post(form, a=1, b=2), fields=["zzz"], on_unkeyed="drop") is None
    assert "Post has no field 'zzz'; it has a, b. Such items are dropped" in warnings()[1]
    assert key(post(form, id="x"), fields=["id.x"], on_unkeyed="error") is None
    assert "end as item_error" in warnings()[2]


def test_undeclared_fields_of_a_named_class() -> None:
    """A class that FIELDS names must have the fields, or a subclass of it must."""
    with pytest.raises(SettingsError, match="Base has no field 'aa'; did you mean 'a'"):
        identifier(fields={Base: ["aa"]})
    with pytest.raises(SettingsError, match="Base has no field 'post_id'; it has a, b"):
        identifier(fields={Base: ["post_id.x"]})

    class Wider(Base):
        only_here = scrapy.Field()

    assert key(Wider(only_here=1), fields={Base: ["only_here"]}) is not None
    assert key(Open(a=1, x=2), fields={Open: ["x"]}) is not None
    assert key(Open(a=1, x=2), fields={Open: ["x"]}) != key(Open(a=1, x=3), fields={Open: ["x"]})


def test_the_rule_that_won_is_told(warnings: Callable[[], list[str]]) -> None:
    """Where metadata and the settings say two things, one line says which holds."""
    cls = class_of("dataclass", "Post", {"a": True, "b": None})
    it = identifier(fields=["b"])
    for number in range(3):
        it.key(cls(number, 2), None)
    (line,) = warnings()
    assert "Post are identified by 'a'; the rule for all classes in VALKEY_DEDUP_FIELDS" in line
    with importable("posts.items", Post=cls):
        key(cls(1, 2), fields={"posts.items.Post": ["b"]})
    assert "Post are identified by 'b'; its dedup metadata" in warnings()[1]
