"""``raylake dev``: a real Kafka broker on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from raylake.cli.output import Output, OutputOption, print_json, stdout
from raylake.errors import ConfigError
from raylake.kafka.connection import Connection
from raylake.kafka.dev import DevBroker
from raylake.kafka.produce import Sample
from raylake.kafka.produce import produce as produce_orders

app = typer.Typer(
    add_completion=False, help="A real Kafka broker on this machine.", no_args_is_help=True
)

Instance = Annotated[str, typer.Option(help="The broker's name; each has ports and data.")]


@app.command()
def up(instance: Instance = "default", output: OutputOption = Output.text) -> None:
    """Start the broker, or find it running; prints its address."""
    info = DevBroker(instance=instance).up()
    if output is Output.json:
        print_json({"running": True, "broker": asdict(info)})
        return
    console = stdout()
    console.print(info.bootstrap)
    console.print(f"Apache Kafka {info.version}, process {info.pid}, log {info.log}")


@app.command()
def status(instance: Instance = "default", output: OutputOption = Output.text) -> None:
    """Say whether the broker runs, and where."""
    info = DevBroker(instance=instance).status()
    if output is Output.json:
        print_json({"running": info is not None, "broker": asdict(info) if info else None})
    elif info is None:
        stdout().print("no broker runs here; `raylake dev up` starts one")
    else:
        stdout().print(f"{info.bootstrap}\nApache Kafka {info.version}, process {info.pid}")


@app.command()
def down(
    instance: Instance = "default",
    wipe: Annotated[bool, typer.Option("--wipe", help="Also delete its topics.")] = False,
    output: OutputOption = Output.text,
) -> None:
    """Stop the broker; its topics stay for the next start."""
    stopped = DevBroker(instance=instance).down(wipe=wipe)
    if output is Output.json:
        print_json({"running": False, "stopped": stopped, "wiped": wipe})
        return
    said = "stopped" if stopped else "no broker ran"
    stdout().print(f"{said}; its data is gone" if wipe else said)


@app.command()
def produce(
    topic: Annotated[str, typer.Option(help="Created when it is not there.")] = "orders",
    count: Annotated[int, typer.Option(min=1, help="Events.")] = 10_000,
    partitions: Annotated[int, typer.Option(min=1, help="Of a new topic.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 0,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second.")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Another cluster than the local broker.")
    ] = None,
    output: OutputOption = Output.text,
) -> None:
    """Write sample orders to a topic."""
    made = produce_orders(
        Connection(bootstrap or _bootstrap()),
        topic,
        Sample(count, partitions, seed, rate),
    )
    if output is Output.json:
        print_json({"produced": asdict(made)})
        return
    created = f", created with {partitions} partitions" if made.created else ""
    stdout().print(f"{made.events:,} events into {made.topic!r}{created} ({made.seconds:.1f} s)")


def _bootstrap() -> str:
    info = DevBroker().status()
    if info is None:
        raise ConfigError(
            "no broker runs here", hint="`raylake dev up` starts one; or give --bootstrap"
        )
    return info.bootstrap
