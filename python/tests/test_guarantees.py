"""GUARANTEES.md speaks of tests that exist."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TITLE = "\n## In Python\n"


def all_tests() -> set[str]:
    found = set[str]()
    for path in HERE.glob("**/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
    return found


def test_every_clause_names_tests_that_exist() -> None:
    text = (HERE / "../../GUARANTEES.md").read_text()
    promised, _, in_python = text.partition(TITLE)
    rows = [line.split(" | ") for line in in_python.splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert {row[0] for row in rows} >= set(re.findall(r"^\| [A-Z]\d+", promised, re.MULTILINE))
    known = all_tests()
    for name, *cells in rows:
        named = re.findall(r"`(test_\w+)`", " ".join(cells))
        assert named, f"{name} names no test"
        assert set(named) <= known, f"{name}: there is no test {set(named) - known}"


def test_every_fault_names_tests_that_exist() -> None:
    text = (HERE / "../../GUARANTEES.md").read_text()
    _, _, faults = text.partition("\n## When something around it fails\n")
    named = set(re.findall(r"`(test_\w+)`", faults))
    assert len(named) > 10
    assert named <= all_tests(), named - all_tests()
