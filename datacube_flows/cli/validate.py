"""`datacube validate`: every broken rule of every document, with its path and its remedy."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from datacube_flows.cli import exit_codes
from datacube_flows.cli.documents import Documents, read_documents
from datacube_flows.core.advice import warnings_of
from datacube_flows.core.plan import Policy
from datacube_flows.core.rules import validate
from datacube_flows.errors import DocumentError, EngineMissing, InvalidDataCube, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datacube_flows.api.datacube import DataCube


_NUMBERED = re.compile(r"(?P<list>spec\.(?:source|sink)\.options|spec\.executor\.env)\[(?P<number>\d+)\]")


def validate_documents(files: list[Path], *, allow_http: bool) -> int:
    """Checks the documents, says what is wrong on stderr and returns the exit code."""
    console = Console(stderr=True)
    policy = Policy(allowed_schemes=("https", "http") if allow_http else ("https",))
    with told_to(console):
        documents = read_documents(files)
        cubes = check_documents(documents, policy)
    for notice in documents.notices:
        console.print(notice, style="yellow", markup=False, highlight=False)
    for cube in cubes:
        console.print(f"{cube.metadata.name}: valid", markup=False, highlight=False)
        for warning in warnings_of(cube):
            console.print(f"  {warning}", style="yellow", markup=False, highlight=False)
    return exit_codes.OK


@contextmanager
def told_to(console: Console) -> Iterator[None]:
    """Says what is wrong with the input, and ends the command with the exit code that fits."""
    try:
        yield
    except DocumentError as error:
        console.print(f"datacube: {error}", style="bold red", markup=False, highlight=False)
        raise typer.Exit(exit_codes.USAGE) from None
    except EngineMissing as error:
        console.print(f"datacube: {error}", style="bold red", markup=False, highlight=False)
        raise typer.Exit(exit_codes.NOT_STARTED) from None
    except InvalidDataCube as error:
        show_violations(console, error)
        raise typer.Exit(exit_codes.INVALID) from None


def check_documents(documents: Documents, policy: Policy) -> list[DataCube]:
    """Returns the DataCubes of all documents.

    Raises:
        InvalidDataCube: with the broken rules of all of them; where there are several, paths name theirs.
    """
    cubes: list[DataCube] = []
    violations: list[Violation] = []
    for number, document in enumerate(documents.cubes, 1):
        try:
            cubes.append(validate(document, env_policy=policy.env_policy, allowed_schemes=policy.allowed_schemes))
        except InvalidDataCube as error:
            where = f"{_name(document, number)}: " if len(documents.cubes) > 1 else ""
            found = (Violation(where + _named(v.path, document), v.message, v.remedy) for v in error.violations)
            violations += found
    if violations:
        raise InvalidDataCube(violations)
    return cubes


def show_violations(console: Console, error: InvalidDataCube) -> None:
    """Prints each violation on lines of its own."""
    count = len(error.violations)
    console.print(f"datacube: {count} rule{'s' if count > 1 else ''} broken", style="bold red", highlight=False)
    for violation in error.violations:
        console.print(f"  {violation.path}", style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(f"    {violation.message}", markup=False, highlight=False, soft_wrap=True)
        if violation.remedy:
            console.print(f"    {violation.remedy}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _named(path: str, document: dict[str, Any]) -> str:
    """The path, with the name of the option or variable that its number stands for."""
    match = _NUMBERED.match(path)
    if match is None:
        return path
    here: Any = document
    for key in (*match["list"].split("."), int(match["number"]), "name"):
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            return path
    return f"{path} ({here})"


def _name(document: dict[str, Any], number: int) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return str(name) if name else f"document {number}"
