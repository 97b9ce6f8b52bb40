"""One pipeline has one run, whoever submits it and how often; and whose job is whose."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from ray.runtime_env import RuntimeEnv

import raylake
from raylake.client import jobs_api, submission
from raylake.client.jobs_api import JobsApi
from raylake.client.progress import Silent
from raylake.client.run import Run, RunFailed
from raylake.errors import AlreadyRunning, ConfigError, DependencyUnreachable, Refused, WrongVersion
from tests.integration.submitting.conftest import Runs, Target, Write

RACERS = 20
WAIT_S = 90.0


def race(runs: Runs, file: Path) -> list[Run]:
    """Twenty clients that submit the same file at the same time."""
    together = Barrier(RACERS)

    def submit(_number: int) -> Run:
        together.wait(60)
        return runs.submit(file)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(submit, range(RACERS)))


@pytest.mark.long
@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_failure_39_twenty_racing_submissions_give_one_job(
    cluster_runs: Runs, cluster_target: Target, write: Write
) -> None:
    assert cluster_target.address is not None
    name = f"p{uuid.uuid4().hex[:6]}"
    found = race(cluster_runs, write(name))
    assert len(found) == RACERS
    submitted = {one.submission_id for one in found}
    assert submitted == {f"raylake-{name}-0001"}
    jobs = JobsApi(cluster_target.address)
    assert [one.submission_id for one in jobs.jobs(name)] == [f"raylake-{name}-0001"]
    assert {one.run_id for one in found} == {jobs.jobs(name)[0].run_id}
    found[0].wait("caught_up", WAIT_S, Silent())
    assert found[-1].drain(WAIT_S).state == "stopped"
    # The next one is a generation on; the same file, so no question is asked.
    later = cluster_runs.submit(write(name), available_now=True)
    assert later.submission_id == f"raylake-{name}-0002"
    assert later.wait(timeout_s=WAIT_S, progress=Silent()).state == "done"
    assert later.verify().ok


@pytest.mark.spec("K1")
def test_twenty_racing_starts_on_this_machine_give_one_process(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    runs = Runs(raylake.connect(tmp_path / "lake"), [])
    found = race(runs, write(f"p{uuid.uuid4().hex[:6]}"))
    try:
        assert len({one.run_id for one in found}) == 1
        assert len({one.place.words for one in found}) == 1
    finally:
        ended = found[0].stop(WAIT_S)
    assert ended.ended


@pytest.mark.spec("K1")
@pytest.mark.timeout(300)
def test_what_goes_wrong_is_typed_and_says_what_to_do(
    cluster_runs: Runs, cluster_target: Target, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster_target.address
    assert address is not None
    lake, name = cluster_runs.lake, f"p{uuid.uuid4().hex[:6]}"
    file = write(name)
    jobs = JobsApi(address)
    foreign = jobs._client.submit_job(entrypoint="true", runtime_env=RuntimeEnv())
    with pytest.raises(Refused, match="RayLake did not submit it"):
        lake.run(name, job=foreign)
    with pytest.raises(ConfigError, match="is not a pipeline's name"):
        lake.run("../clicks")
    with pytest.raises(ConfigError, match="has not run"):
        lake.run(name)
    with pytest.raises(ConfigError, match="is a pipeline of the lake") as told:
        raylake.connect("/another/lake", address).submit(file)
    assert "raylake.connect" in told.value.hint
    with pytest.raises(ConfigError, match="credentials"):
        raylake.connect(lake.where, "http://me:secret@head:8265").submit(file)
    with pytest.raises(DependencyUnreachable, match=r"127\.0\.0\.1:1"):
        raylake.connect(lake.where, "http://127.0.0.1:1").submit(file)

    with monkeypatch.context() as patched:
        patched.setattr(jobs_api, "version", lambda _name: "2.9.0")
        with pytest.raises(WrongVersion, match=r"this client has Ray 2\.9\.0"):
            lake.submit(file)
    with monkeypatch.context() as patched:
        patched.setattr(submission, "UPLOAD_LIMIT_BYTES", 10)
        with pytest.raises(ConfigError, match=rf"would be uploaded .*{name}\.yaml"):
            lake.submit(file)
    assert not jobs.jobs(name), "something was submitted"

    # RayLake of another version on the cluster; the job itself says so.
    with monkeypatch.context() as patched:
        patched.setattr(submission, "__version__", "99.0")
        run = cluster_runs.submit(file)
    with pytest.raises(RunFailed, match=r"RayLake 99\.0 submitted this job") as failed:
        run.wait("ended", WAIT_S, Silent())
    assert "pip install" in failed.value.hint
    assert failed.value.context["state"] == "failed"

    # The same name in another lake: the cluster has one supervisor of a name.
    lasting = cluster_runs.submit(file)
    elsewhere = f"{lake.where}-2"
    with pytest.raises(AlreadyRunning, match="of another lake"):
        raylake.connect(elsewhere, address).submit(file, set={"lake": elsewhere})
    with pytest.raises(Refused, match=f"is of pipeline '{name}'"):
        lake.run("another", job=lasting.submission_id)
    lasting.stop(WAIT_S)
    with monkeypatch.context() as patched:
        patched.setenv("RAY_AUTH_TOKEN", "0" * 64)
        with pytest.raises(DependencyUnreachable, match="refuses the token"):
            lake.submit(file)
