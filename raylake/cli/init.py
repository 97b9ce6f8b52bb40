"""``raylake init``: a pipeline file with the columns that the topics really have."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import yaml

from raylake.cli.output import Output, OutputOption, print_json
from raylake.client.drafts import draft
from raylake.clock import SystemClock
from raylake.errors import ConfigError

app = typer.Typer(add_completion=False)


@app.command()
def init(
    bootstrap: Annotated[str, typer.Option(help="host:port of a broker.", show_default=False)],
    topic: Annotated[list[str], typer.Option(help="A topic; may be repeated.", show_default=False)],
    pipeline: Annotated[
        str | None, typer.Option(help="The pipeline's name; default: the first topic's.")
    ] = None,
    security: Annotated[
        str | None,
        typer.Option(
            help="kafka.security as the file will have it: '{protocol: SASL_SSL, …}'. Secrets are"
            " references (env:NAME, file:/path).",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.text,
) -> None:
    """Sample topics and print a pipeline file for them.

    `raylake init --bootstrap localhost:9092 --topic orders > orders.yaml`
    """
    name = pipeline or topic[0]
    known = _mapping(security) if security is not None else None
    text = draft(bootstrap, list(dict.fromkeys(topic)), name, SystemClock(), known)
    if output is Output.json:
        print_json({"pipeline": name, "file": text})
    else:
        sys.stdout.write(text)


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        # The text is not repeated: it may hold a secret.
        raise ConfigError(
            "--security is not a mapping in YAML",
            hint="for example '{protocol: SASL_SSL, mechanism: SCRAM-SHA-512, "
            "username: env:KAFKA_USER, password: env:KAFKA_PASSWORD, ca: /etc/kafka/ca.pem}'",
        )
    return found
