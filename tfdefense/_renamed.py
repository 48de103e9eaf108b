"""Old names that go on working for one version, with a word on the new ones."""

import functools
import importlib.abc
import importlib.machinery
import pkgutil
import sys
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed_names(module, **new):
    """A `__getattr__` for a module whose names have new ones, `old="new"`: the old one still works, with a DeprecationWarning."""

    def __getattr__(name):
        if name not in new:
            from tfdefense._suggest import did_you_mean

            suggestion = did_you_mean(name, sys.modules[module].__all__)
            raise AttributeError(f"module '{module}' has no attribute '{name}'.{suggestion}")
        here = module.replace("tfdefense", "td", 1)
        note = f"`{here}.{name}` is now `{here}.{new[name]}`; the next version no longer knows the old name."
        # The package itself asks only for what it does not load by name.
        warnings.warn(note, DeprecationWarning, stacklevel=3 if module == "tfdefense" else 2)
        return pkgutil.resolve_name(f"{module}.{new[name]}")

    return __getattr__


class RenamedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of old names, `{"package.old": "package.new"}`: they hold what the new ones do, with a DeprecationWarning.

    What moved on from there the package still has under its old name.
    """

    def __init__(self, new):
        self.new = new

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in self.new else None

    def exec_module(self, module):
        note = (
            f"The module `{module.__name__}` is now `{self.new[module.__name__]}`; the next version no longer knows the old name."
        )
        warnings.warn(note, DeprecationWarning, stacklevel=2)
        found = vars(importlib.import_module(self.new[module.__name__]))
        vars(module).update({name: value for name, value in found.items() if name[:2] != "__"})
        package = sys.modules[module.__name__.rpartition(".")[0]]
        vars(module)["__getattr__"] = lambda name: getattr(package, name)


def renamed_keywords(**new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function whose keywords have new names, `old="new"`: the old one still works, with a DeprecationWarning."""

    def decorate(function):
        @functools.wraps(function)
        def renamed(*args, **options):
            return function(*args, **with_new_names(options, **new))

        return renamed

    return decorate


def with_new_names(options, **new):
    """The keywords given to a function that was called by the caller of this one, under their new names."""
    for old in new.keys() & options.keys():
        if new[old] in options:
            raise TypeError(f"`{old}` is the old name of `{new[old]}`. Received both. Leave `{old}` out.")
        note = f"`{old}` is now called `{new[old]}`; the next version no longer knows the old name."
        warnings.warn(note, DeprecationWarning, stacklevel=3)
        options = {new.get(name, name): value for name, value in options.items()}
    return options


def renamed_attributes(**new):
    """A `__getattr__` for a class whose attributes have new names, `old="new"`. No properties: Keras reads all that there are."""

    def __getattr__(self, name):
        if name not in new:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        note = f"`{name}` is now called `{new[name]}`; the next version no longer knows the old name."
        warnings.warn(note, DeprecationWarning, stacklevel=2)
        return getattr(self, new[name])

    return __getattr__


def renamed_options(arguments, tell, **new):
    """The arguments of a command line with the new names of its options, `old="new"`; `tell` gets a line for each old one."""
    found = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name[2:] in new:
            tell(f"warning: {name} is now called --{new[name[2:]]}; the next version no longer knows the old name.")
            argument = f"--{new[name[2:]]}{equals}{value}"
        found.append(argument)
    return found
