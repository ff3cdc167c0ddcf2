"""The same change as YAML, as `az ml` commands and as HTTP requests: what a form shows next to itself.

Here is what all of them are written with. The changes are in `ascode_online`, `ascode_assets` and `ascode_batch`, calls
of an endpoint in `ascode_calls`. Each function takes what the form knows so far; parts that are not filled in yet are
left out. Shapes: spec 3 for the YAML, wire 5 for the bodies.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.conf import settings

TOKEN = "$PORTWAY_TOKEN"  # noqa: S105 -- the name of a variable, not a token
WIDTH = 48  # of the panel that shows it


@dataclass(frozen=True)
class AsCode:
    """Three texts of the same meaning; `files` are the YAML files that the commands name."""

    yaml: str
    cli: str
    curl: str

    @property
    def tabs(self) -> list[tuple[str, str, str]]:
        return [("cli", "CLI", self.cli), ("yaml", "YAML", self.yaml), ("curl", "curl", self.curl)]


@dataclass
class Writer:
    """Collects files, commands and requests, in the order in which they have to be used."""

    workspace: str
    files: list[tuple[str, dict[str, Any] | str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def file(self, name: str, document: dict[str, Any] | str) -> str:
        self.files.append((name, document))
        return name

    def az(self, *words: str) -> None:
        where = ["-w", self.workspace, "-g", settings.RESOURCE_GROUP]
        self.commands.append(joined("az ml", [shlex.quote(each) for each in [*words, *where]]))

    def portway(self, *words: str) -> None:
        """What Azure's commands have no word for."""
        self.commands.append(joined("portway", [shlex.quote(each) for each in [*words, "-w", self.workspace]]))

    def note(self, text: str) -> None:
        self.commands.append(f"# {text}")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, form: tuple[str, ...] = ()) -> None:
        self.send(method, f"{settings.BASE_URL}/api/v1/workspaces/{self.workspace}/{path}", body, form=form)

    def send(
        self,
        method: str,
        address: str,
        body: dict[str, Any] | None = None,
        *,
        form: tuple[str, ...] = (),
        headers: tuple[str, ...] = (),
    ) -> None:
        parts = ["--cacert ca.pem", f"-X {method}", f'-H "Authorization: Bearer {TOKEN}"']
        parts += [f"-H {shlex.quote(each)}" for each in headers]
        if body is not None:
            parts += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(body, indent=2))}"]
        parts += [f"-F {shlex.quote(each)}" for each in form]
        self.requests.append(joined(f"curl {shlex.quote(address)}", parts))

    def done(self) -> AsCode:
        many = len(self.files) > 1
        texts = [
            (f"# {name}\n" if many else "") + (each if isinstance(each, str) else dumped(each))
            for name, each in self.files
        ]
        return AsCode("---\n".join(texts), "\n".join(self.commands), "\n\n".join(self.requests))


def joined(first: str, parts: list[str]) -> str:
    """One command over as many lines as it needs: an option and its value stay together."""
    lines = [first]
    for each in parts:
        last = lines[-1]
        if not each.startswith("-"):
            lines[-1] = f"{last} {each}"
        else:
            lines.append(each)
    whole = " ".join(lines)
    return whole if len(whole) <= WIDTH else " \\\n  ".join(lines)


def pruned(value: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty: nobody writes such lines."""
    inner = {key: pruned(each) if isinstance(each, dict) else each for key, each in value.items()}
    return {key: each for key, each in inner.items() if each is not None and each != "" and each not in ({}, [])}


class _Dumper(yaml.SafeDumper):
    """Blocks of text as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dumped(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def reference(version: Any) -> str | None:
    """azureml:name:version, of an asset's version or of its text."""
    return f"azureml:{version}" if version else None
