"""Editors and type checkers know the public names: each is annotated, and a checker sees those that are loaded when used."""

import importlib
import inspect
import pkgutil

import pytest

import tfdefense as td

# `tfdefense.NAME` and what its `__all__` gives; without one, what it defines.
MODULES = sorted(module.name for module in pkgutil.iter_modules(td.__path__) if not module.name.startswith("_"))


def public(module):
    """The names that a module gives, as (name, object)."""
    own = [
        name for name, x in vars(module).items() if not name.startswith("_") and getattr(x, "__module__", None) == module.__name__
    ]
    return [(f"{module.__name__}.{name}", getattr(module, name)) for name in getattr(module, "__all__", own)]


def callables(name, x):
    """The function, or the constructor, methods and properties of the class, as (name, function); Keras's own methods are
    annotated by no one."""
    if inspect.isfunction(x):
        yield name, x
    if not inspect.isclass(x):
        return
    ours = [cls for cls in x.__mro__ if cls.__module__.startswith("tfdefense")]
    theirs = {key for cls in x.__mro__ if cls not in ours for key in vars(cls)} - {"__init__", "__call__"}
    for cls in ours:
        for key, value in vars(cls).items():
            value = getattr(value, "fget", getattr(value, "func", getattr(value, "__func__", value)))
            if inspect.isfunction(value) and key not in theirs and (key in ("__init__", "__call__") or not key.startswith("_")):
                yield f"{name}.{key}", value


def lacking(function):
    """What of a function has no annotation: names of arguments, "return"."""
    signature = inspect.signature(function)
    found = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    returns = signature.return_annotation is signature.empty and function.__name__ != "__init__"
    return found + ["return"] * returns


def test_a_lacking_annotation_is_seen():
    class Half:
        def __init__(self, a, b: int): ...

        @property
        def c(self): ...

        def d(self) -> None: ...

    Half.__module__ = "tfdefense.half"
    assert {name: lacking(f) for name, f in callables("Half", Half)} == {"Half.__init__": ["a"], "Half.c": ["return"], "Half.d": []}


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_annotated(name):
    module = importlib.import_module(f"tfdefense.{name}")
    found = {where: what for given in public(module) for where, f in callables(*given) if (what := lacking(f))}
    assert not found
