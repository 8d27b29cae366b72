"""The examples of the manual, which are the stubs and what has none."""

import ast
import asyncio
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import everbeat.threading
from everbeat._options import Options

PACKAGE = Path(everbeat.__file__).parent
MANUALS: dict[str, ModuleType] = {
    "_everbeat.pyi": everbeat,
    "_oneshot.py": everbeat,
    "threading.pyi": everbeat.threading,
}


def examples() -> Iterator[Any]:
    finder = doctest.DocTestParser()
    for file, module in MANUALS.items():
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                name = getattr(node, "name", "module")
                names = {"asyncio": asyncio, **vars(module)}
                test = finder.get_doctest(ast.get_docstring(node) or "", names, name, file, 0)
                if test.examples:
                    yield pytest.param(test, id=f"{file}-{name}")


@pytest.mark.parametrize("test", list(examples()))
def test_manual(test: doctest.DocTest) -> None:
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_signature_of_timers_is_that_of_the_manual() -> None:
    parameters = inspect.signature(everbeat.Timer).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    assert positional == ["delay", "target", "exc_cb", "cancel_cb", "cancel_aws", "start"]
    assert keywords == [name for name in Options.__annotations__ if name not in positional]
    assert len(parameters) == len(positional) + len(keywords)
    assert (everbeat.Timer.__doc__ or "").startswith("A recurring timer in an event loop: calls its target")
