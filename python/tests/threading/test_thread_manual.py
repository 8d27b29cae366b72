"""The examples of the manual, which is the stub."""

import ast
import doctest
from pathlib import Path

import pytest

import everbeat.threading


def examples():
    stub = Path(everbeat.threading.__file__).with_suffix(".pyi")
    finder = doctest.DocTestParser()
    for node in ast.walk(ast.parse(stub.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            name = getattr(node, "name", "module")
            names = dict(vars(everbeat.threading))
            test = finder.get_doctest(ast.get_docstring(node) or "", names, name, str(stub), 0)
            if test.examples:
                yield pytest.param(test, id=name)


@pytest.mark.parametrize("test", list(examples()))
def test_manual(test):
    assert doctest.DocTestRunner().run(test).failed == 0
