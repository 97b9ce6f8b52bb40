"""The house rules, read from syntax trees: size, imports, excepts, forks, retries, docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("raylake", "actors", "jobs")
MAX_MODULE_LINES = 400
MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7

# Where everything must be caught: the actors' loop, user code, the command line.
BROAD_EXCEPT_ALLOWED = frozenset(
    {
        "actors/partition_consumer.py",
        "actors/supervisor.py",
        "raylake/cli/main.py",
        "raylake/client/fixes.py",
        "raylake/quality/custom.py",
    }
)
"""The boundaries: the loops of two actors, the command line, users' rules and fixes."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
_DEFAULT_START_METHOD = {"Process", "Pool", "Manager", "Queue", "SimpleQueue", "JoinableQueue"}


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule."""

    rule: str
    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.rule}: {self.what}"


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """Path (from the root, with slashes) and text of each module below ``folders``."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def findings(path: str, text: str) -> list[Finding]:
    """Everything in one module that breaks a rule."""
    tree = ast.parse(text)
    found: list[Finding] = []
    if (lines := len(text.splitlines())) > MAX_MODULE_LINES:
        found.append(Finding("module size", path, 1, f"{lines} lines"))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.ClassDef) and (lines := _lines(node)) > MAX_CLASS_LINES:
            found.append(Finding("class size", path, line, f"{node.name} has {lines} lines"))
        elif isinstance(node, Function):
            found += [Finding(rule, path, line, what) for rule, what in _function_rules(node)]
        if path not in BROAD_EXCEPT_ALLOWED and _is_broad(node):
            found.append(Finding("broad except", path, line, "catches every exception"))
        if what := _fork(node):
            found.append(Finding("fork", path, line, what))
        if what := _task_retries(node):
            found.append(Finding("max_task_retries", path, line, what))
    return found + [Finding("docstring", path, *where) for where in _undocumented(tree.body, "")]


def _function_rules(node: Function) -> Iterator[tuple[str, str]]:
    if (lines := _lines(node) - _docstring_lines(node)) > MAX_FUNCTION_LINES:
        yield "function size", f"{node.name} has {lines} lines"
    if (count := _parameters(node)) > MAX_PARAMETERS:
        yield "parameters", f"{node.name} takes {count}"
    for inner in ast.walk(node):
        if name := _own_import(inner):
            yield "import in function", f"{node.name} imports {name}"


def _lines(node: ast.ClassDef | Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_lines(node: Function) -> int:
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def _parameters(node: Function) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (bool(names) and names[0] in {"self", "cls"})


def _own_import(node: ast.AST) -> str:
    if isinstance(node, ast.ImportFrom):
        name = "." * node.level + (node.module or "")
        return name if node.level or name.split(".")[0] in PACKAGES else ""
    if isinstance(node, ast.Import):
        return next((a.name for a in node.names if a.name.split(".")[0] in PACKAGES), "")
    return ""


def _is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or bool(_names(node.type) & {"Exception", "BaseException"})
    if isinstance(node, ast.Call) and _called(node) == "suppress":
        return any(_names(argument) & {"Exception", "BaseException"} for argument in node.args)
    return False


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _called(node: ast.Call) -> str:
    target = node.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _owner(node: ast.Call) -> str:
    target = node.func
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return target.value.id
    return ""


def _fork(node: ast.AST) -> str:
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        names = {a.name for a in node.names} & {"fork", "forkpty"}
        return f"imports os.{names.pop()}" if names else ""
    if isinstance(node, ast.ImportFrom) and node.module == "multiprocessing":
        names = {a.name for a in node.names} & _DEFAULT_START_METHOD
        return f"{names.pop()} starts by fork: take it from get_context('spawn')" if names else ""
    if not isinstance(node, ast.Call):
        return ""
    name, owner = _called(node), _owner(node)
    keywords = {k.arg: k.value for k in node.keywords}
    if name in {"fork", "forkpty"}:
        return f"{owner}.{name}()"
    if owner in {"multiprocessing", "mp"} and name in _DEFAULT_START_METHOD:
        return f"{owner}.{name} starts by fork: take it from get_context('spawn')"
    if name in {"get_context", "set_start_method"}:
        method = node.args[0] if node.args else keywords.get("method")
        spawned = isinstance(method, ast.Constant) and method.value == "spawn"
        return "" if spawned else f"{name} must say 'spawn'"
    if name == "ProcessPoolExecutor" and "mp_context" not in keywords:
        return "ProcessPoolExecutor without mp_context=get_context('spawn')"
    return "preexec_fn runs Python between fork and exec" if "preexec_fn" in keywords else ""


def _task_retries(node: ast.AST) -> str:
    pairs: list[tuple[object, ast.AST]] = []
    if isinstance(node, ast.Call):
        pairs = [(k.arg, k.value) for k in node.keywords]
    elif isinstance(node, ast.Dict):
        pairs = [
            (key.value, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        ]
    for name, value in pairs:
        if name == "max_task_retries" and not (
            isinstance(value, ast.Constant) and value.value == 0
        ):
            return f"max_task_retries={ast.unparse(value)}: Ray would repeat a call that mutates"
    return ""


def _undocumented(body: list[ast.stmt], prefix: str) -> Iterator[tuple[int, str]]:
    for node in body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        name = prefix + node.name
        if ast.get_docstring(node) is None and not _needs_none(node):
            yield node.lineno, f"{name} is public and says nothing"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{name}.")


def _needs_none(node: ast.ClassDef | Function) -> bool:
    decorators = {ast.unparse(d).rsplit(".", 1)[-1] for d in node.decorator_list}
    return bool(decorators & {"overload", "override", "setter"})
