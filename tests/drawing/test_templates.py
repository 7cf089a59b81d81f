"""Templates and view classes: one of each, and a template uses only what its class has.

The templates are not rendered here: a fault in a branch that no other test reaches is found, too.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, ClassVar, Union

import pytest
from jinja2 import Environment, nodes

from emotion2vec_ui import drawing
from emotion2vec_ui.drawing import render
from emotion2vec_ui.drawing.render import View

GIVEN = {"t", "say", "face", "draw", "lang", "loop"}
"""What a template sees besides `view`: see `render.draw`."""


def view_classes(base: type[View] = View) -> Iterator[type[View]]:
    for one in base.__subclasses__():
        # Those of tests are none of the package's.
        if one.__module__.startswith(drawing.__name__):
            yield one
        yield from view_classes(one)


for module in pkgutil.iter_modules(drawing.__path__, f"{drawing.__name__}."):
    importlib.import_module(module.name)
CLASSES = sorted(view_classes(), key=lambda one: one.template)


def test_each_template_has_one_class_and_each_class_one_template():
    files = {path.name for path in render.TEMPLATES.glob("*.html")}
    assert [one.template for one in CLASSES] == sorted(files)


@pytest.mark.parametrize("view", CLASSES, ids=lambda one: one.template)
def test_a_template_uses_only_what_its_class_has(view):
    source = (render.TEMPLATES / view.template).read_text(encoding="utf-8")
    assert faults(source, view) == []


# --- what a template asks for ---------------------------------------------------------------------


def faults(source: str, view: type[View]) -> list[str]:
    checker = Checker()
    checker.body(Environment().parse(source).body, {"view": view} | dict.fromkeys(GIVEN, Any))
    return checker.faults


class Checker:
    """Walks a template with the type of every name.

    `Any` is the type of what the rendering functions give and of anything computed; nothing may be
    asked of it but the position in a loop.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def body(self, body: Sequence[nodes.Node], scope: dict[str, Any]) -> None:
        for node in body:
            self.statement(node, scope)

    def statement(self, node: nodes.Node, scope: dict[str, Any]) -> None:
        if isinstance(node, nodes.For):
            item = item_of(self.type_of(node.iter, scope))
            inside = dict(scope)
            self.assign(node.target, item, inside)
            if node.test is not None:
                self.type_of(node.test, inside)
            self.body(node.body, inside)
            self.body(node.else_, scope)
        elif isinstance(node, nodes.If):
            self.type_of(node.test, scope)
            for part in (node.body, node.elif_, node.else_):
                self.body(part, scope)
        elif isinstance(node, nodes.Assign):
            if isinstance(node.target, nodes.Tuple):
                for target, value in zip(node.target.items, node.node.items, strict=True):
                    self.assign(target, self.type_of(value, scope), scope)
            else:
                self.assign(node.target, self.type_of(node.node, scope), scope)
        elif isinstance(node, nodes.Macro):
            self.body(node.body, scope | {one.name: Any for one in node.args})
            scope[node.name] = Any
        elif isinstance(node, nodes.Output):
            for part in node.nodes:
                self.type_of(part, scope)
        elif isinstance(node, nodes.Include):
            assert (render.TEMPLATES / node.template.value).suffix == ".svg"
        else:
            self.faults.append(f"line {node.lineno}: {type(node).__name__} is not checked")

    def assign(self, target: nodes.Node, value: Any, scope: dict[str, Any]) -> None:
        if isinstance(target, nodes.Tuple):
            for one, part in zip(target.items, typing.get_args(value), strict=True):
                self.assign(one, part, scope)
        else:
            scope[target.name] = value

    def type_of(self, node: nodes.Node, scope: dict[str, Any]) -> Any:
        """The type of an expression; faults in it are noted."""
        if isinstance(node, nodes.Name):
            if node.name not in scope:
                self.faults.append(f"line {node.lineno}: {node.name} is not there")
            return scope.get(node.name, Any)
        if isinstance(node, nodes.Getattr):
            owner = self.type_of(node.node, scope)
            if isinstance(node.node, nodes.Name) and node.node.name == "loop":
                return Any
            try:
                return attribute(owner, node.attr)
            except AttributeError:
                self.faults.append(f"line {node.lineno}: {owner} has no {node.attr}")
                return Any
        if isinstance(node, nodes.Getitem):
            owner = self.type_of(node.node, scope)
            if isinstance(node.arg, nodes.Slice):
                return owner
            self.type_of(node.arg, scope)
            return item_of(owner, value=True)
        if isinstance(node, nodes.Const | nodes.TemplateData):
            return Any
        for child in node.iter_child_nodes():
            self.type_of(child, scope)
        return Any


def members(kind: Any) -> list[Any]:
    """The types of a union without None; the type itself where it is none."""
    if typing.get_origin(kind) in (Union, UnionType):
        return [one for one in typing.get_args(kind) if one is not NoneType]
    return [kind]


def attribute(kind: Any, name: str) -> Any:
    """The type of an attribute: of a field, a property, or a method (which is called in words)."""
    found = [_attribute(one, name) for one in members(kind)]
    return Union[tuple(found)]  # noqa: UP007


def _attribute(kind: Any, name: str) -> Any:
    if name.startswith("_") or not inspect.isclass(kind):
        raise AttributeError(name)
    hints = typing.get_type_hints(kind)
    if name in hints:
        return hints[name]
    member = inspect.getattr_static(kind, name)
    if isinstance(member, property):
        return typing.get_type_hints(member.fget)["return"]
    if isinstance(member, cached_property):
        return typing.get_type_hints(member.func)["return"]
    assert inspect.isfunction(member)
    return Any


def item_of(kind: Any, *, value: bool = False) -> Any:
    """The type of what iterating over `kind` gives, or of the values of a mapping."""
    (one,) = members(kind)
    arguments = typing.get_args(one)
    if typing.get_origin(one) is dict:
        return arguments[1] if value else arguments[0]
    return arguments[0] if arguments else Any


# --- the check itself can fail --------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    word: str


@dataclass(frozen=True)
class Sample(View):
    template: ClassVar[str] = "sample.html"

    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    maybe: Part | None
    pairs: tuple[tuple[str, Part], ...]

    @property
    def first(self) -> Part:
        return self.parts[0]

    def words(self, lang: str) -> str:
        return lang


@pytest.mark.parametrize(
    "source",
    [
        "{{ view.first.word }}{{ view.maybe.word }}{{ view.by_name['a'].word }}{{ lang }}",
        "{% for part in view.parts[1:] %}{{ loop.index }}{{ t(part.word) }}{% endfor %}",
        "{% for name, part in view.pairs %}{{ name }}{{ part.word }}{% endfor %}",
        "{% set part, n = view.first, 1 %}{{ part.word|upper if n else say(view.words) }}",
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(view.first.word) }}",
    ],
)
def test_what_is_there_passes(source):
    assert faults(source, Sample) == []


@pytest.mark.parametrize(
    "source",
    [
        "{{ view.nothing }}",
        "{{ view.first.nothing }}",
        "{{ view.maybe.nothing }}",
        "{{ view._private }}",
        "{{ other }}",
        "{{ t('a', b=view.nothing) }}",
        "{% if view.nothing %}{% endif %}",
        "{% if view.parts %}{% else %}{{ view.nothing }}{% endif %}",
        "{% for part in view.parts %}{{ part.nothing }}{% endfor %}",
        "{% for part in view.parts %}{% endfor %}{{ part.word }}",
        "{% for name, part in view.pairs %}{{ name.nothing }}{% endfor %}",
        "{{ view.by_name['a'].nothing }}",
        "{% set part = view.first %}{{ part.nothing }}",
        "{% macro twice(x) %}{{ x.word }}{% endmacro %}",
        "{{ 'a' if view.nothing }}",
        "{{ '%s'|format(view.nothing) }}",
    ],
)
def test_what_is_not_there_is_found(source):
    assert faults(source, Sample) != []
