"""Writes the documentation's pages that repeat what the code says: `python -m api.document errors|routes|settings`."""

import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from api.app import create_app
from api.codes import CODES
from api.settings import Settings

_ERRORS: Final = """\
# Problems

<!-- Written by `python -m api.document errors`. -->

Every refusal is `application/problem+json` (RFC 9457) with a `code` that never changes its meaning. `type` leads to a
page of the running service (`/problems/CODE`) that says what is said here. `reasons` are sentences for people,
`articles` the constitution's articles it rests on, and `field` the input that is wrong. No value that was sent is
repeated.

| HTTP | code | what it is | what to do next |
|---|---|---|---|
"""

_ROUTES: Final = """\
# Routes

<!-- Written by `python -m api.document routes`. -->

The running service describes itself in `GET /openapi.json` (OpenAPI 3.2), which needs no key and is not listed
here. What all routes have in common stands in the [overview](README.md).

| route | who | what |
|---|---|---|
"""

_SETTINGS: Final = """\
# Settings

<!-- Written by `python -m api.document settings`. -->

A setting is taken from the first place that has it: a flag, the environment, `triad.toml` in the working folder,
`triad.toml` in the home folder, the default. Unknown settings are refused. No secret has a default, and none stands in
the file: secrets are references, `file:/path` or `env:NAME`. `python -m api.settings FILE` says whether a file may be
used; Triad changes its own file by an operation (`config.apply_change` on `triad-config`), which asks it. The systems
it may touch stand in [systems.toml](systems.md); `database.*` is explained in [own PostgreSQL](own-postgresql.md).

| in `triad.toml` | environment | default | meaning |
|---|---|---|---|
"""


def errors_page() -> str:
    """`docs/api/errors.md`."""
    rows = sorted(CODES.items(), key=lambda item: (item[1].status, item[0]))
    return _ERRORS + "".join(
        f"| {each.status} | `{code}` | {each.title} | {each.next.replace('|', ',')} |\n" for code, each in rows
    )


def routes_page() -> str:
    """`docs/api/routes.md`."""
    paths: dict[str, dict[str, Any]] = create_app(Settings(), _nobody).openapi()["paths"]
    rows = [
        f"| `{method.upper()} {path}` | {'key' if 'security' in operation else 'open'} | {_first(operation)} |\n"
        for path, methods in sorted(paths.items())
        for method, operation in methods.items()
    ]
    return _ROUTES + "".join(rows)


def _nobody(_key: str) -> None:
    return None


def _first(operation: dict[str, Any]) -> str:
    sentence: str = " ".join(operation["description"].split())
    return sentence


def settings_page() -> str:
    """`docs/operations/settings.md`."""
    return _SETTINGS + "".join(
        f"| `{name}` | `TRIAD_{name.replace('.', '_').upper()}` | {default} | {meaning} |\n"
        for name, default, meaning in _rows(Settings, "")
    )


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _rows(nested, f"{prefix}{name}.")
        else:
            yield prefix + name, _default(prefix + name, field), f"{field.description}{_bounds(field)}"


def _default(name: str, field: FieldInfo) -> str:
    if name == "home":
        return "`/var/lib/triad` for root, else `~/.local/share/triad`"
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return "none" if value in {None, ()} else f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    """What a value must keep to, where it is short enough to say."""
    limits: dict[str, Any] = {}
    for each in field.metadata:
        limits |= {name: getattr(each, name) for name in ("ge", "le") if getattr(each, name, None) is not None}
    if {"ge", "le"} <= limits.keys():
        return f" ({limits['ge']:,} to {limits['le']:,})"
    choices = [each for each in get_args(field.annotation) if isinstance(each, str)]
    return f" ({', '.join(choices)})" if choices else ""


def main(arguments: list[str]) -> int:
    """Write one page to standard output."""
    pages = {"errors": errors_page, "routes": routes_page, "settings": settings_page}
    if len(arguments) != 1 or arguments[0] not in pages:
        sys.stderr.write(f"usage: python -m api.document {'|'.join(pages)}\n")
        return 2
    sys.stdout.write(pages[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
