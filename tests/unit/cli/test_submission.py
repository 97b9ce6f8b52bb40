"""What is submitted as a Ray job, and the plain line that does the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from raylake import __version__
from raylake.client.jobs_address import cluster_address, job_headers
from raylake.client.submission import CLIENT_VERSION_ENV, STOP_WAIT_ENV, Submission
from raylake.config import load
from raylake.errors import ConfigError

RUN = "20250101T000000Z-abcdef"
URL = "http://127.0.0.1:8265"


def submission(
    folder: Path, text: str = "", name: str = "clicks.yaml", **more: object
) -> Submission:
    file = folder / name
    file.write_text(
        "pipeline: clicks\nlake: ./lake\nkafka: {bootstrap: 'localhost:9092'}\n"
        "bronze: {clicks: {topics: [clicks], path: data/clicks}}\n" + text
    )
    environ = more.pop("variables", {})
    assert isinstance(environ, dict)
    loaded = load(file, environ=environ)
    return Submission(loaded, URL, RUN, variables=environ, **more)  # type: ignore[arg-type]


def words(one: Submission) -> tuple[list[str], dict[str, str], list[str]]:
    """Variables, options and the job's own words of the printed line."""
    every = shlex.split(one.line())
    begin, end = every.index("ray"), every.index("--")
    options = [word for word in every[begin + 3 : end] if word != "--no-wait"]
    return every[:begin], dict(zip(options[::2], options[1::2], strict=True)), every[end + 1 :]


def test_the_printed_line_says_all_that_is_submitted(tmp_path: Path) -> None:
    one = submission(
        tmp_path, available_now=True, take_over=True, overrides=("ingest.consumers=1",)
    )
    variables, options, job = words(one)
    assert variables == [
        f"RAY_API_SERVER_ADDRESS={URL}",
        "RAY_AUTH_MODE=token",
        "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1",
    ]
    assert options["--address"] == URL
    assert options["--submission-id"] == f"raylake-clicks-{RUN}"
    assert options["--working-dir"] == str(tmp_path)
    assert json.loads(options["--runtime-env-json"]) == one.runtime_env()
    assert json.loads(options["--metadata-json"]) == one.metadata()
    assert job == one.entrypoint()
    assert job[:8] == [
        *("python", "-P", "-m", "raylake", "job", "ingest", "--config", "clicks.yaml"),
    ]
    assert {"--available-now", "--take-over", f"--run-id={RUN}"} <= set(job)
    assert "--set=ingest.consumers=1" in job


def test_the_drain_time_reaches_ray_with_a_margin(tmp_path: Path) -> None:
    one = submission(tmp_path, "ingest: {drain_timeout: 90500ms}\n")
    assert one.runtime_env()["env_vars"] == {STOP_WAIT_ENV: "106", CLIENT_VERSION_ENV: __version__}


def test_local_places_are_sent_as_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [word for word in submission(tmp_path).entrypoint() if word.startswith("--set=")]
    assert sets == [
        f"--set=lake={tmp_path}/lake",
        f"--set=bronze.clicks.path={tmp_path}/data/clicks",
    ]
    monkeypatch.chdir("/")
    there = load(tmp_path / "clicks.yaml", overrides=dict(one[6:].split("=", 1) for one in sets))
    assert there.config.lake == f"{tmp_path}/lake"
    assert there.config.bronze["clicks"].path == f"{tmp_path}/data/clicks"


def test_variables_of_this_shell_count_there_too_and_no_others_go(tmp_path: Path) -> None:
    secret = "planted-secret"
    kafka = "RAYLAKE__KAFKA__SECURITY__"
    ours = {
        "RAYLAKE__INGEST__CONSUMERS": "2",
        f"{kafka}PROTOCOL": "SASL_SSL",
        f"{kafka}MECHANISM": "PLAIN",
        f"{kafka}USERNAME": "u",
        f"{kafka}PASSWORD": "env:KAFKA_PASSWORD",
    }
    environ = {**ours, "KAFKA_PASSWORD": secret, "RAY_AUTH_TOKEN": secret}
    one = submission(tmp_path, variables=environ)
    assert one.loaded.config.kafka.security is not None
    sent = one.runtime_env()["env_vars"]
    assert {name: value for name, value in sent.items() if name.startswith("RAYLAKE__")} == ours
    assert secret not in one.line()
    assert secret not in repr(one.metadata())


def test_a_secret_itself_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    environ = {"RAYLAKE__KAFKA__SECURITY__PASSWORD": "planted-secret"}
    with pytest.raises(ConfigError) as told:
        submission(tmp_path, variables=environ)
    assert "planted-secret" not in str(told.value)


def test_only_the_pipeline_file_and_its_schema_files_are_uploaded(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "a b.yaml").write_text("id: long\n")
    text = "  \n"
    one = submission(tmp_path, text, name="my [clicks].yaml")
    assert one.runtime_env()["excludes"] == ["/[!.]*", "/.?*", "!/my\\ \\[clicks\\].yaml"]
    file = tmp_path / "with.yaml"
    file.write_text(
        "pipeline: clicks\nlake: /lake\nkafka: {bootstrap: 'localhost:9092'}\n"
        "bronze: {clicks: {topics: [clicks], schema: 'schemas/a b.yaml'}}\n"
    )
    with_schema = Submission(load(file), URL, RUN)
    assert with_schema.runtime_env()["excludes"] == [
        *("/[!.]*", "/.?*", "!/schemas", "/schemas/*", "!/schemas/a\\ b.yaml", "!/with.yaml"),
    ]


def test_the_address_is_the_options_then_rays_own() -> None:
    environ = {"RAY_ADDRESS": "http://a:1", "RAY_AUTH_TOKEN": "t"}
    assert cluster_address(None, environ) == "http://a:1"
    assert environ["RAY_AUTH_MODE"] == "token"
    assert cluster_address("http://b:2", environ) == "http://b:2"
    assert environ["RAY_API_SERVER_ADDRESS"] == environ["RAY_ADDRESS"] == "http://b:2"
    with pytest.raises(ConfigError, match="no cluster") as told:
        cluster_address(None, {})
    assert "raylake run" in told.value.hint
    with pytest.raises(ConfigError, match="credentials") as seen:
        cluster_address("http://me:planted@head:8265", {})
    assert "planted" not in str(seen.value)


def test_requests_carry_the_token_by_rays_own_order(tmp_path: Path) -> None:
    def sent(**environ: str) -> dict[str, str]:
        return job_headers(environ, tmp_path)

    assert sent() == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("kept\n")
    (tmp_path / "named").write_text("named\n")
    assert sent() == {"Authorization": "Bearer kept"}
    assert sent(RAY_AUTH_TOKEN_PATH=str(tmp_path / "named")) == {"Authorization": "Bearer named"}
    assert sent(RAY_AUTH_TOKEN="t") == {"Authorization": "Bearer t"}
    assert sent(RAY_AUTH_TOKEN="t", RAY_AUTH_MODE="disabled") == {}
    own = '{"authorization": "mine", "X-Team": "a"}'
    assert sent(RAY_AUTH_TOKEN="t", RAY_JOB_HEADERS=own) == {"authorization": "mine", "X-Team": "a"}
