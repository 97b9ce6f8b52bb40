"""The notebooks of ``examples/``, executed by a kernel as a reader would (SPEC K1)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from raylake.client.progress import InNotebook
from tests.harness.broker import LiveBroker
from tests.harness.cluster import ROOT, LiveCluster
from tests.integration.transform.orders import encoded, events

EXAMPLES = ROOT / "examples"
TIMEOUT_S = 240


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / name, as_version=4)


def executed(name: str, folder: Path) -> Any:
    book = read(name)
    kernels: list[Any] = []
    client = NotebookClient(
        book,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda **_: kernels.append(client.km.provisioner.process),
    )
    try:
        client.execute()
    except Exception as error:
        # nbclient says no more than that a kernel died; a negative code is a signal.
        error.add_note(f"the kernel's exit code: {[one.poll() for one in kernels[-1:]]}")
        raise
    return book


def outputs(book: Any, of: str) -> list[Any]:
    """The outputs of the cell that holds this text."""
    cell = next(one for one in book.cells if of in one.source and one.cell_type == "code")
    return list(cell.outputs)


def html(book: Any, of: str) -> str:
    return "".join(one["data"].get("text/html", "") for one in outputs(book, of) if "data" in one)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.fixture
def kernel_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel finds this source tree."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    # What ends a kernel is told where its errors go.
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")


@pytest.mark.spec("K1")
@pytest.mark.usefixtures("kernel_environment")
def test_the_notebook_on_time_travel_runs(tmp_path: Path) -> None:
    book = executed("time_travel.ipynb", tmp_path)
    assert "<table" in html(book, "customers.history()")
    assert "restore" in str(outputs(book, "plan_restore")).lower()


@pytest.mark.spec("K1")
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("kernel_environment")
def test_the_notebook_of_the_design_runs_the_example(
    tmp_path: Path, broker: LiveBroker, ray_cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = uuid.uuid4().hex[:8]
    text = (EXAMPLES / "orders.yaml").read_text()
    for name in ("orders.eu", "orders.us"):
        text = text.replace(name, f"{name}-{suffix}")
        broker.create_named_topic(f"{name}-{suffix}", 3)
    (tmp_path / "orders.yaml").write_text(text)
    producer = broker.producer(acks="all", linger_ms=5)
    made = events(200, 1)
    for one in made:
        producer.send(
            f"{one.topic}-{suffix}",
            key=one.key.encode(),
            value=encoded(one.value),
            partition=one.partition,
            timestamp_ms=one.timestamp_ms,
        )
    producer.flush()
    producer.close()
    monkeypatch.setenv("KAFKA", broker.bootstrap)
    monkeypatch.delenv("LAKE", raising=False)
    for variable, value in ray_cluster.environment.items():
        monkeypatch.setenv(variable, value)
    book = executed("orders.ipynb", tmp_path)
    waited = outputs(book, "run.wait()")
    shown = [one for one in waited if one.output_type == "display_data"]
    assert len(shown) == 1, "progress is one output, renewed in place"
    assert "done" in html(book, "run.wait()")
    assert "every offset is accounted for" in html(book, "run.verify()")
    assert "silver.orders" in html(book, 'os.environ.get("LAKE"') + html(book, "lake\n") + str(
        [cell.outputs for cell in book.cells if cell.source == "lake"]
    )
    rows = next(c for c in book.cells if c.source.startswith("await ")).outputs
    assert "done" in str(rows)


def test_progress_is_renewed_in_place() -> None:
    calls: list[Any] = []

    class Handle:
        def update(self, view: Any) -> None:
            calls.append(("update", view))

    def display(view: Any, *, display_id: bool) -> Handle:
        calls.append(("display", view, display_id))
        return Handle()

    progress = InNotebook(display)
    for view in ("a", "b", "c"):
        progress.show(view)  # type: ignore[arg-type]
    assert calls == [("display", "a", True), ("update", "b"), ("update", "c")]
