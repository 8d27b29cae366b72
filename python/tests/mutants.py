"""Changes the Python files of the package, one place at a time, and tells which changes no test notices.

    python -m tests.mutants                  # all files: hours
    python -m tests.mutants _group.py ...    # these

Operators, conditions, numbers, flags, arguments, calls and results are changed, in a copy of the tree. The
tests run with each change until one fails or they take far too long. What is left is for somebody to look at:
some changes mean the same.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "target", "artifacts", "__pycache__", ".*_cache")
# What other programs, or the time of a busy machine, may fail.
NOT_RUN = [
    "--ignore=tests/examples",
    "--ignore=tests/test_readme.py",
    "--ignore=tests/test_soak.py",
    "-k",
    "not real_time",
]
# A change is held to have been noticed when the tests take so many times as long as without it.
PATIENCE = 5

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}


def main() -> int:
    wanted = sys.argv[1:]
    survivors = 0
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        begin = time.monotonic()
        if not passes(tree, None):
            sys.exit("the tests fail without any change")
        limit = PATIENCE * (time.monotonic() - begin)
        for file in sorted((tree / "python/everbeat").rglob("*.py")):
            if wanted and file.name not in wanted:
                continue
            source, name = file.read_text(), file.relative_to(tree)
            for line, text in mutants(source):
                file.write_text(text)
                survived = passes(tree, limit)
                survivors += survived
                before = source.splitlines()[line - 1].strip()
                print("SURVIVED" if survived else "noticed", f"{name}:{line}: {before}", flush=True)
            file.write_text(source)
    print(survivors, "changes were not noticed")
    return int(survivors > 0)


def passes(tree: Path, limit: float | None) -> bool:
    # Before the package that is installed.
    environment = {**os.environ, "PYTHONPATH": str(tree / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    # What noticed the last change often notices the next one too.
    first = ["--failed-first", "-o", f"cache_dir={tree.parent / 'cache'}"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *first, *NOT_RUN]
    try:
        ended = subprocess.run(
            command, cwd=tree / "python", env=environment, timeout=limit, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return False
    if limit is None and ended.returncode:
        print(ended.stdout[-5000:])
    return ended.returncode == 0


def mutants(source: str) -> Iterator[tuple[int, str]]:
    """Each change, as the line where it is and the whole text with it."""
    plain = ast.unparse(ast.parse(source))
    for place, node in enumerate(ast.walk(ast.parse(source))):
        for which in range(len(changes(node))):
            tree = ast.parse(source)
            changed = list(ast.walk(tree))[place]
            changes(changed)[which]()
            text = ast.unparse(ast.fix_missing_locations(tree))
            if text != plain:
                yield getattr(changed, "lineno", 1), text


def changes(node: ast.AST) -> list[Callable[[], None]]:
    """What can be changed of this alone."""

    def put(field: str, value: object) -> Callable[[], None]:
        return lambda: setattr(node, field, value)

    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            return [put("ops", [SWAPS[type(op)]()])]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            return [put("op", SWAPS[type(op)]())]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [put("operand", negated(operand))]
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            return [put("test", negated(test))]
        case ast.Constant(value=bool() as value):
            return [put("value", not value)]
        case ast.Constant(value=int() | float() as value):
            return [put("value", value + 1)]
        case ast.Return(value=ast.expr()) | ast.Expr(value=ast.Call() | ast.Await()):
            return [put("value", ast.Constant(None))]
        case ast.Call(args=[*others, _]) if others:
            return [put("args", others)]
        case ast.Call(keywords=[*others, _]):
            return [put("keywords", others)]
    return []


def negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


if __name__ == "__main__":
    sys.exit(main())
