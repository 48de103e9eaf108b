"""Editors and type checkers know the public names: each is annotated, also those that are loaded when they are used."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import tfdefense as td

MODULES = ["tfdefense", *(f"tfdefense.{module.name}" for module in pkgutil.iter_modules(td.__path__) if module.name[0] != "_")]


def public(module):
    """What a module gives, as pairs (name, object): the names of its `__all__`, or what it defines."""
    own = [name for name, x in vars(module).items() if name[0] != "_" and getattr(x, "__module__", "") == module.__name__]
    for name in getattr(module, "__all__", own):
        x = getattr(module, name)
        yield from public(x) if inspect.ismodule(x) else [(f"{module.__name__}.{name}", x)]


def functions(name, x):
    """The function itself, or constructor, methods and properties of the class, as pairs (name, function).

    Methods that Keras calls and has no types for, such as `call` and `build`, are left out; so are annotated fields.
    """
    if inspect.isfunction(x):
        yield name, x
    mro = x.__mro__ if inspect.isclass(x) else ()
    left_out = {key for cls in mro if not cls.__module__.startswith("tfdefense") for key in vars(cls)} - {"__init__", "__call__"}
    left_out |= {key for cls in mro for key in vars(cls).get("__annotations__", ())}
    for cls in mro:
        for key, value in vars(cls).items():
            function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
            hidden = key[0] == "_" and key not in ("__init__", "__call__")
            if cls.__module__.startswith("tfdefense") and inspect.isfunction(function) and key not in left_out and not hidden:
                yield f"{name}.{key}", function


def lacking(function):
    """What of a function has no annotation, here or in the stub beside its file: the names of arguments, or "return"."""
    stub = Path(inspect.getfile(function)).with_suffix(".pyi")
    if stub.exists():
        (found,) = (node for node in ast.parse(stub.read_text()).body if getattr(node, "name", "") == function.__name__)
        arguments = (*found.args.posonlyargs, *found.args.args, *found.args.kwonlyargs)
        names = [one.arg for one in arguments]
        assert names == list(inspect.signature(function).parameters), f"{stub.name} has other arguments"
        return [one.arg for one in arguments if one.annotation is None] + ["return"] * (found.returns is None)
    signature = inspect.signature(function)
    arguments = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    returns = signature.return_annotation is signature.empty and function.__name__ != "__init__"
    return arguments + ["return"] * returns


def test_lacking_annotations_are_seen_wherever_they_are():
    class Half:
        def __init__(self, a, b: int): ...

        @property
        def c(self): ...

        @classmethod
        def d(cls, *e: int, **f) -> None: ...

        def g(self) -> None: ...

    Half.__module__ = "tfdefense.half"
    found = {name: lacking(function) for name, function in functions("Half", Half)}
    assert found == {"Half.__init__": ["a"], "Half.c": ["return"], "Half.d": ["f"], "Half.g": []}


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_annotated(name):
    pairs = [pair for given in public(importlib.import_module(name)) for pair in functions(*given)]
    assert pairs, "nothing to look at"
    assert not {where: what for where, function in pairs if (what := lacking(function))}


def test_checkers_see_what_is_loaded_when_it_is_used():
    tree = ast.parse(Path(td.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname: f"{line.module}.{alias.name}" for line in block.body for alias in line.names}
    assert seen.keys() == set(td.__all__)
    assert all(pkgutil.resolve_name(path) is getattr(td, name) for name, path in seen.items())
