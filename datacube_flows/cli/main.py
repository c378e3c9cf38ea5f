"""The `datacube` command: its verbs and their flags. What a verb does is in the module named after it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from datacube_flows import __version__

app = typer.Typer(
    name="datacube",
    help="Moves data between volumes and Git, Hugging Face or S3, as DataCube documents say.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Output(StrEnum):
    """What goes to standard output."""

    TEXT = "text"
    YAML = "yaml"
    JSON = "json"


class Engine(StrEnum):
    """What runs documents on this machine."""

    INLINE = "inline"
    PREFECT = "prefect"


class Rendered(StrEnum):
    """Which objects `render` prints."""

    POD = "pod"
    CLAIM = "claim"


Files = Annotated[
    list[Path],
    typer.Option("--file", "-f", help="YAML file with DataCubes, Secrets, ConfigMaps; `-` is standard input."),
]
Volumes = Annotated[Path, typer.Option(help="Folder that holds one folder a claim.")]
Secrets = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads the annotation
    typer.Option("--secret", metavar="NAME.KEY=VALUE|@FILE", help="A key of a Secret; may be given several times."),
]
OutputFormat = Annotated[Output, typer.Option("--output", "-o", help="Print the status as a cluster would show it.")]
AllowHttp = Annotated[
    bool, typer.Option("--allow-http", envvar="DATACUBE_ALLOW_HTTP", help="Let plain HTTP be spoken (closed networks).")
]
CaBundle = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        envvar="DATACUBE_CA_BUNDLE", exists=True, dir_okay=False, help="PEM file with the authorities to trust."
    ),
]


@app.command()
def run(
    *,
    file: Files,
    volumes: Volumes = Path("volumes"),
    secret: Secrets = None,
    output: OutputFormat = Output.TEXT,
    allow_http: AllowHttp = False,
    ca_bundle: CaBundle = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="What runs them: a plain loop, or Prefect, which keeps a history (PREFECT_API_URL, or its own)."
        ),
    ] = Engine.INLINE,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on with the next document after a failure.")] = (
        False
    ),
) -> None:
    """Run DataCubes on this machine, in the order of the file; claims are folders below --volumes."""
    from datacube_flows.cli.run import EngineName, Request, run_documents

    request = Request(
        file, volumes, tuple(secret or ()), allow_http=allow_http, ca_bundle=ca_bundle, engine=EngineName(engine)
    )
    raise typer.Exit(run_documents(request, output, keep_going=keep_going, dry_run=False))


@app.command()
def plan(
    *,
    file: Files,
    volumes: Volumes = Path("volumes"),
    secret: Secrets = None,
    output: OutputFormat = Output.TEXT,
    allow_http: AllowHttp = False,
    ca_bundle: CaBundle = None,
) -> None:
    """Say what `run` would add, update and delete, and how many bytes would move; change nothing."""
    from datacube_flows.cli.run import Request, run_documents

    request = Request(file, volumes, tuple(secret or ()), allow_http=allow_http, ca_bundle=ca_bundle)
    raise typer.Exit(run_documents(request, output, keep_going=True, dry_run=True))


@app.command()
def validate(file: Files, allow_http: AllowHttp = False) -> None:
    """Check documents against every rule, and say all that is wrong at once."""
    from datacube_flows.cli.validate import validate_documents

    raise typer.Exit(validate_documents(file, allow_http=allow_http))


@app.command()
def render(
    *,
    file: Files,
    only: Annotated[
        Optional[Rendered],  # noqa: UP045
        typer.Option("--as", help="Print only the pod, or only the claim."),
    ] = None,
    image: Annotated[str, typer.Option(help="Image of the transfer.")] = "datacube/transfer:latest",
    allow_http: AllowHttp = False,
) -> None:
    """Print the Kubernetes objects that documents become: the claim and the pod of an attempt."""
    from datacube_flows.cli.render import render_documents
    from datacube_flows.core.manifests import Installation

    kinds = frozenset([only] if only else Rendered)
    raise typer.Exit(render_documents(file, kinds, Installation(image=image, allow_http=allow_http)))


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    from datacube_flows.cli.crd import render_crd

    sys.stdout.write(render_crd())


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
