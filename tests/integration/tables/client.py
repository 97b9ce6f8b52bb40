"""A process that works with tables on the tests' cluster; told what to do by lines."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import ray

from actors.calls import owner_name
from actors.table_service import Cluster, RayTables, environment
from actors.table_slots import SILENT_S
from raylake.client.cluster import NAMESPACE, connect
from raylake.errors import RayLakeError
from raylake.storage.place import place
from raylake.tables.alongside import Alongside
from raylake.tables.delta_rs_open import opened
from raylake.tables.requests import Write
from raylake.tables.results import OperationResult
from raylake.tables.routing import Allowance, Route

MARK = "answer: "


class Commands:
    """What a client does."""

    def __init__(self, silent_s: float) -> None:
        connect()
        self.cluster = Cluster(environment=environment(), silent_s=silent_s)
        self.tables = RayTables(self.cluster)

    def allow(self, allowance: Allowance) -> None:
        self.tables.close()
        self.tables = RayTables(replace(self.cluster, allowance=allowance))

    def execute(
        self,
        table: str,
        operation: Write,
        engine: Any = "auto",
        alongside: Alongside | None = None,
    ) -> OperationResult:
        return self.tables.execute(table, operation, engine=engine, alongside=alongside)

    def explain(self, table: str, operation: Write) -> Route:
        return self.tables.explain(table, operation)

    def owner(self, table: str) -> tuple[Any, tuple[str, ...]]:
        """The slot that is open, and who waits."""
        actor = self._owner(table)
        return ray.get(actor.open_slot.remote()), ray.get(actor.waiting.remote())

    def reserved_bytes(self) -> int:
        """Memory of the cluster that somebody has reserved."""
        return int(ray.cluster_resources()["memory"] - ray.available_resources().get("memory", 0))

    def kill_owner(self, table: str) -> None:
        ray.kill(self._owner(table))

    def _owner(self, table: str) -> Any:
        table_id = str(opened(place(table)).metadata().id)
        return ray.get_actor(owner_name(table_id), namespace=NAMESPACE)


def main() -> None:
    commands = Commands(float(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        number, name, arguments = pickle.loads(base64.b64decode(line))
        try:
            answer = getattr(commands, name)(*arguments)
        except RayLakeError as error:
            answer = error
        # Ray may have something to say on the same stream.
        print(MARK + base64.b64encode(pickle.dumps((number, answer))).decode(), flush=True)


class Client:
    """Such a process, as a test has it."""

    def __init__(self, environment: dict[str, str], *, silent_s: float = SILENT_S) -> None:
        self.asked = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.tables.client", str(silent_s)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, name: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.asked += 1
        line = base64.b64encode(pickle.dumps((self.asked, name, arguments))).decode()
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What the last command came to; raises what it raised."""
        assert self.process.stdout is not None
        number = 0
        while number < self.asked:
            # Those of a test that did not wait for them come first.
            line = next((one for one in self.process.stdout if one.startswith(MARK)), "")
            assert line, "the client ended"
            number, found = pickle.loads(base64.b64decode(line.removeprefix(MARK)))
        if isinstance(found, RayLakeError):
            raise found
        return found

    def ready(self) -> Client:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def do(self, name: str, *arguments: Any) -> Any:
        self.begin(name, *arguments)
        return self.answer()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    main()
