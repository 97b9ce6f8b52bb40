"""``raylake dev``: a real Kafka broker and an S3-compatible store on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
import yaml

from raylake.cli.output import Output, OutputOption, print_json, stdout
from raylake.errors import ConfigError
from raylake.kafka.connection import Connection
from raylake.kafka.dev import BrokerInfo, DevBroker
from raylake.kafka.dev_security import GUEST, MECHANISMS, DevSecurity
from raylake.kafka.produce import Sample
from raylake.kafka.produce import produce as produce_orders
from raylake.storage.dev import DevStore, StoreInfo

app = typer.Typer(
    add_completion=False,
    help="A real Kafka broker and an S3-compatible store on this machine.",
    no_args_is_help=True,
)

Instance = Annotated[str, typer.Option(help="A name; each has ports and data of its own.")]


@app.command()
def up(
    instance: Instance = "default",
    store: Annotated[
        bool | None,
        typer.Option("--store/--no-store", help="Also the store; left out: where it is installed."),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="Also with listeners for TLS, SASL and mTLS.")
    ] = False,
    output: OutputOption = Output.text,
) -> None:
    """Start the broker and the store, or find them running; prints their addresses."""
    wanted = DevStore.available() if store is None else store
    broker = DevBroker(instance=instance, secure=secure)
    info = broker.up()
    sections = _sections(info, broker.security) if info.listeners else {}
    lake = DevStore(instance=instance).up() if wanted else None
    if output is Output.json:
        kafka, held = asdict(info), _shown(lake)
        print_json({"running": True, "broker": kafka, "kafka": sections, "store": held})
        return
    console = stdout()
    console.print(info.bootstrap)
    console.print(f"Apache Kafka {info.version}, process {info.pid}, log {info.log}")
    _tell_sections(sections)
    if lake is not None:
        _tell_store(lake)
    elif store is None:
        console.print("no S3-compatible store: pip install 'raylake[devstore]' brings one")


def _tell_sections(sections: dict[str, Any]) -> None:
    console = stdout()
    if sections:
        console.print(f"\nwith credentials (user {GUEST} may log in too, and has no rights):")
    for name, section in sections.items():
        text = yaml.safe_dump({"kafka": section}, sort_keys=False, width=1000)
        console.print(f"# {name}\n{text}", soft_wrap=True, markup=False, highlight=False)


def _sections(info: BrokerInfo, security: DevSecurity) -> dict[str, Any]:
    """The section ``kafka`` of a pipeline file, for each way in."""
    ways: dict[str, str | None] = {name: name for name in reversed(MECHANISMS)}
    return {
        name: {
            "bootstrap": info.address("SASL_SSL" if mechanism else "SSL"),
            "security": security.snippet(mechanism),
        }
        for name, mechanism in {**ways, "client certificate": None}.items()
    }


@app.command()
def status(instance: Instance = "default", output: OutputOption = Output.text) -> None:
    """Say whether the broker and the store run, and where."""
    info, lake = DevBroker(instance=instance).status(), DevStore(instance=instance).status()
    if output is Output.json:
        broker = asdict(info) if info else None
        print_json({"running": info is not None, "broker": broker, "store": _shown(lake)})
        return
    if info is None:
        stdout().print("no broker runs here; `raylake dev up` starts one")
    else:
        stdout().print(f"{info.bootstrap}\nApache Kafka {info.version}, process {info.pid}")
    if lake is not None:
        _tell_store(lake)


@app.command()
def down(
    instance: Instance = "default",
    wipe: Annotated[bool, typer.Option("--wipe", help="Also delete its topics.")] = False,
    output: OutputOption = Output.text,
) -> None:
    """Stop the broker and the store; topics stay for the next start, objects do not."""
    stopped = DevBroker(instance=instance).down(wipe=wipe)
    store_stopped = DevStore(instance=instance).down()
    if output is Output.json:
        told = {"running": False, "stopped": stopped, "wiped": wipe}
        print_json({**told, "store_stopped": store_stopped})
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


def _shown(store: StoreInfo | None) -> dict[str, Any] | None:
    return None if store is None else asdict(store)


def _tell_store(store: StoreInfo) -> None:
    console = stdout()
    console.print(f"s3://{store.bucket} at {store.endpoint}, in memory, process {store.pid}")
    for line in store.exports():
        console.print(f"  {line}")


def _bootstrap() -> str:
    info = DevBroker().status()
    if info is None:
        raise ConfigError(
            "no broker runs here", hint="`raylake dev up` starts one; or give --bootstrap"
        )
    return info.bootstrap
