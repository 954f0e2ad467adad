"""help() is complete: every public name has a docstring and a signature, and the examples in docstrings are true."""

import doctest
import importlib
import inspect
import pkgutil
import pydoc
import re

import pytest

import rtfast
from rtfast import backends

#: The commands: their functions are for the command line, which has its own help.
COMMANDS = {"bench", "demo", "explain", "generate_command", "info", "translate_command"}
COMPILED = {"_avx512", "_avx2", "_neon", "_baseline"}


def modules():
    """Every module of the package in Python, by name."""
    names = [info.name for info in pkgutil.walk_packages(rtfast.__path__, "rtfast.")]
    return ["rtfast", *(name for name in names
                        if name.rpartition(".")[2] not in {"__main__", *COMMANDS, *COMPILED})]


def public(module):
    """(name, function or class) of what the module makes itself, methods included."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        if inspect.isclass(value):
            for part, method in vars(value).items():
                if not part.startswith("_") and (callable(method) or isinstance(method, (property, classmethod))):
                    yield f"{name}.{part}", inspect.getattr_static(value, part)


def has_help(value):
    """Whether it has a docstring, of its own or of the class that it overrides a method of."""
    return bool(inspect.getdoc(value.__func__ if isinstance(value, (classmethod, staticmethod)) else value))


@pytest.mark.parametrize("name", modules())
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    silent = []
    for found, value in public(module):
        owner, _, part = found.partition(".")
        inherited = part and inspect.getdoc(getattr(getattr(module, owner), part))
        if not inherited and not has_help(value):
            silent.append(found)
    assert not silent, f"{name} has no docstring for {', '.join(silent)}"


@pytest.mark.parametrize("name", rtfast.__all__)
def test_every_public_name_has_a_signature(name):
    value = getattr(rtfast, name)
    if callable(value) and not (inspect.isclass(value) and issubclass(value, Exception)):
        assert inspect.signature(value) is not None
    elif name == "kernels":
        for kernel in value.__all__:
            parameters = inspect.signature(getattr(value, kernel)).parameters.values()
            assert all(p.annotation is not inspect.Parameter.empty for p in parameters), kernel


def helped(what):
    """help(what) without what Pythons differ in: from 3.13 on signatures take several lines, in 3.14 have no quotes."""
    return re.sub(r"[\s|']", "", pydoc.plain(pydoc.render_doc(what)))


def test_help_shows_them():
    text = helped(rtfast)
    for name in rtfast.__all__:
        assert name in text
    assert "translate(self,text:strTexts,max_new_tokens:intNone=None" in text
    assert "softmax(x:ArrayLike,out:FloatsNone=None)->Floats" in helped(rtfast.kernels)


def test_compiled_functions_show_their_signatures(backend):
    module = backends.active()
    functions = {name: value for name, value in vars(module).items() if not name.startswith("_")
                 and type(value).__name__ in ("cython_function_or_method", "function")}
    assert len(functions) > 20
    for name, function in functions.items():
        assert inspect.signature(function) is not None  # a ValueError where it has none
        assert inspect.getdoc(function), name
    text = pydoc.plain(pydoc.render_doc(module))
    assert "linear(x, weight, bias, activation, out)" in text.replace(": int", "") or backend == "python"


def test_the_examples_in_docstrings_are_true():
    tried = {}
    for name in modules():
        result = doctest.testmod(importlib.import_module(name))
        assert not result.failed, name
        tried[name] = result.attempted
    assert {name for name, n in tried.items() if n} >= {
        "rtfast", "rtfast.kernels", "rtfast.names", "rtfast.tokenizer", "rtfast.trace"}
