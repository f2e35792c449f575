"""The walls of the house: imports run one way, tables need no torch, and the house measure holds."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
ORDER = {"bench": 0, "baselines": 1, "llmrec": 2}
FILES = [path for room in (*ORDER, "speed") for path in sorted((HOUSE / room).rglob("*.py"))]
MAX_LINES, MAX_BODY, MAX_ARGUMENTS = 300, 60, 7


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_imports_run_bench_baselines_llmrec():
    wrong = [
        f"{path.relative_to(HOUSE)} imports {name}"
        for path in FILES
        if (room := path.relative_to(HOUSE).parts[0]) in ORDER
        for name in _imported(path)
        if ORDER.get(name.partition(".")[0], -1) > ORDER[room]
    ]
    assert wrong == []


def test_losses_and_trie_know_nothing_of_datasets_and_suites():
    files = [HOUSE / "llmrec/trie.py", *(HOUSE / "llmrec/losses").glob("*.py")]
    known = {name for path in files for name in _imported(path) if name.startswith("bench.")}
    assert not {
        n
        for n in known
        if n.startswith(("bench.data", "bench.experiment.suite", "bench.experiment.grid"))
    }


@pytest.mark.parametrize(
    "module",
    [
        *("bench.board", "bench.significance.two_way", "bench.claims", "bench.evaluation.metrics"),
        "bench.paper",
    ],
)
def test_tables_are_made_without_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'recbole') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# rooms of bench from the ground up; the doorstep's files, and what is made of all rooms, lie outside
ROOMS = (
    *("text", "disk", "significance", "data", "evaluation", "results", "experiment", "claims"),
    *("questions", "execution", "board", "paper", "cli"),
)


def test_rooms_of_bench_import_downwards():
    floor = {room: place for place, room in enumerate(ROOMS)}
    wrong = [
        f"{path.relative_to(HOUSE)} imports {name}"
        for path in (HOUSE / "bench").rglob("*/*.py")
        for name in _imported(path)
        if name.startswith("bench.")
        and floor.get(name.split(".")[1], -1) > floor[path.relative_to(HOUSE).parts[1]]
    ]
    assert wrong == []


def _at_import(body):
    """Import statements that run when a module is loaded: not those in functions or for types only."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            yield from _at_import(getattr(node, part, []))


def test_no_module_waits_for_itself_when_it_is_loaded():
    modules = {}
    for path in FILES:
        parts = path.relative_to(HOUSE).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    needs = {}
    for module, path in modules.items():
        found = set()
        for node in _at_import(ast.parse(path.read_text()).body):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif node.module and not node.level:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        needs[module] = (found & modules.keys()) - {module}
    assert len(list(TopologicalSorter(needs).static_order())) == len(modules)


def test_house_measure():
    wrong = []
    for path in FILES:
        text = path.read_text()
        tree = ast.parse(text)
        name = path.relative_to(HOUSE)
        if text.count("\n") > MAX_LINES:
            wrong.append(f"{name} has {text.count(chr(10))} lines")
        if not ast.get_docstring(tree):
            wrong.append(f"{name} has no docstring")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                size = node.end_lineno - node.lineno
                arguments = node.args.args + node.args.kwonlyargs
                if size > MAX_BODY or len(arguments) > MAX_ARGUMENTS + 1:
                    wrong.append(f"{name}:{node.lineno} {node.name}: {size} lines")
    assert wrong == []


def test_no_assertion_free_tests():
    empty = []
    for path in (HOUSE / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                dump = ast.dump(node)
                if "Assert" not in dump and "raises" not in dump and "assert_" not in dump:
                    empty.append(f"{path.name}:{node.name}")
    assert empty == []
