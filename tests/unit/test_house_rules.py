"""The house rules hold for the code as it stands, and each rule finds what it is there to find."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from functools import cache

import pytest

import raylake
from raylake.errors import RayLakeError
from tests.harness.house_rules import PACKAGES, Finding, findings, sources


@cache
def _all_of(folder: str) -> list[Finding]:
    return [one for path, text in sources(folder) for one in findings(path, text)]


def _found(rule: str, folders: tuple[str, ...] = PACKAGES) -> list[str]:
    return [str(one) for folder in folders for one in _all_of(folder) if one.rule == rule]


@pytest.mark.parametrize(
    "rule",
    [
        "module size",
        "class size",
        "function size",
        "parameters",
        "import in function",
        "broad except",
        "docstring",
    ],
)
def test_the_product_keeps_the_rule(rule: str) -> None:
    assert _found(rule) == []


def test_the_sources_are_read() -> None:
    read = {path for path, _ in sources(*PACKAGES)}
    assert {"raylake/errors.py", "actors/__init__.py", "jobs/__init__.py"} <= read


def test_failure_45_nothing_forks() -> None:
    assert _found("fork", folders=(*PACKAGES, "tests", "benchmarks")) == []


def test_failure_34_no_actor_call_is_repeated_by_ray() -> None:
    assert _found("max_task_retries") == []


_SEVEN = ", ".join("abcdefg")
_LONG_BODY = "".join(f"    x = {n}\n" for n in range(60))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("module size", "x = 1\n" * 401),
        ("class size", "class C:\n    '''C.'''\n" + "    x = 1\n" * 249),
        ("function size", "def f():\n" + _LONG_BODY),
        ("parameters", f"def f({_SEVEN}, h): ..."),
        ("parameters", f"def f({_SEVEN}, *, h): ..."),
        ("parameters", f"class C:\n    def f(self, {_SEVEN}, h): ..."),
        ("import in function", "def f():\n    from raylake.delta import x"),
        ("import in function", "def f():\n    import actors.owner"),
        ("import in function", "async def f():\n    from . import x"),
        ("broad except", "try: ...\nexcept: ..."),
        ("broad except", "try: ...\nexcept Exception: ..."),
        ("broad except", "try: ...\nexcept (OSError, BaseException): ..."),
        ("broad except", "with contextlib.suppress(Exception): ..."),
        ("docstring", "def f(): ..."),
        ("docstring", "class C:\n    '''C.'''\n    def f(self): ..."),
        ("fork", "os.fork()"),
        ("fork", "from os import fork"),
        ("fork", "multiprocessing.Process(target=f)"),
        ("fork", "from multiprocessing import Pool"),
        ("fork", "multiprocessing.get_context()"),
        ("fork", "multiprocessing.get_context('fork')"),
        ("fork", "multiprocessing.set_start_method('forkserver')"),
        ("fork", "ProcessPoolExecutor(2)"),
        ("fork", "subprocess.Popen(x, preexec_fn=f)"),
        ("max_task_retries", "@ray.remote(max_task_retries=3)\nclass C: ..."),
        ("max_task_retries", "@ray.method(max_task_retries=-1)\ndef f(): ..."),
        ("max_task_retries", "Owner.options(**{'max_task_retries': 1})"),
        ("max_task_retries", "Owner.options(max_task_retries=n)"),
    ],
)
def test_a_rule_finds_what_breaks_it(rule: str, text: str) -> None:
    assert rule in {finding.rule for finding in findings("raylake/sample.py", text)}


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n" * 400,
        f"class _C:\n    def f(self, {_SEVEN}): ...",
        "def _f():\n    '''Long.\n" + "\n" * 60 + "    '''\n    import json",
        "try: ...\nexcept OSError: ...",
        "multiprocessing.get_context('spawn').Process(target=f)",
        "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn'))",
        "Owner.options(max_task_retries=0, max_restarts=0)",
    ],
)
def test_a_rule_lets_the_rest_be(text: str) -> None:
    assert findings("raylake/sample.py", text) == []


def test_a_broad_except_is_let_be_at_the_named_boundaries_only() -> None:
    text = "try: ...\nexcept Exception: ..."
    assert findings("raylake/cli/main.py", text) == []
    assert findings("raylake/cli/other.py", text) != []


def _error_classes() -> list[type[RayLakeError]]:
    for module in pkgutil.walk_packages(raylake.__path__, "raylake."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[RayLakeError]] = []
    waiting = [RayLakeError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return sorted((kind for kind in set(found) if kind.__module__.startswith("raylake.")), key=str)


def test_every_error_survives_pickling_with_all_that_it_says() -> None:
    kinds = _error_classes()
    assert len(kinds) > 10
    for kind in kinds:
        error = kind("what happened", hint="what to do", partition=3, offsets=[1, 2])
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (again.message, again.hint) == (error.message, error.hint)
        assert again.context == {"partition": 3, "offsets": [1, 2]}
        assert (str(again), again.code, again.exit_code) == (str(error), kind.code, kind.exit_code)
