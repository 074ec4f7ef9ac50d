"""Prints the documentation's page on playbooks from the catalogue: `python -m operations.playbooks.document`."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from operations.playbook import Catalogue, Playbook
from operations.playbooks.registry import default_catalogue

INTRODUCTION = """\
# Playbooks

A playbook does one real thing to one kind of system. This page is drawn from the catalogue (`make docs`), and a test
fails when the two differ; `triad playbook show NAME` prints the same of the running version.

- *Tier* is what the playbook declares: 0 reads only, 1 standard, 2 normal, 3 high. The constitution can raise it.
- *Effect* says what may be done after a crash in the middle: `read` and `idempotent` run again, `once_probe` asks the
  system whether it happened, `once_blind` is never tried twice.
- *Undo* says whether a rollback can bring back what was there before.
"""

EXAMPLES: Final = {
    "config.apply_change": """\
Each change has a `path`, a list from the outermost table to the key, and either a `value` or `"remove": true`:

```json
{"changes": [
  {"path": ["server", "port"], "value": 8080},
  {"path": ["server", "hosts"], "value": ["a.example.com", "b.example.com"]},
  {"path": ["server", "debug"], "remove": true}
]}
```

A `value` is text, a whole number, true or false, or a list of these. On the command line it is a parameter
of `triad run`: `-p 'changes=[{"path": ["server", "port"], "value": 8080}]'`, with `--type configuration` and a
`--rollback-plan`.
"""
}
"""What a table of arguments does not show, by playbook."""


def page(catalogue: Catalogue) -> str:
    """The whole page: an overview, then each playbook with its arguments, by name."""
    playbooks = sorted(catalogue, key=lambda playbook: playbook.name)
    overview = [
        "| playbook | what it does | tier | effect | undo |",
        "|---|---|---|---|---|",
        *(
            f"| [`{p.name}`](#{p.name.replace('.', '')}) | {_cell(p.summary)} | {p.tier} | `{p.effect.value}` "
            f"| {'yes' if p.reversible else 'no'} |"
            for p in playbooks
        ),
    ]
    return "\n".join([INTRODUCTION, "\n".join(overview), "", *("\n".join(_section(p)) for p in playbooks)])


def _section(playbook: Playbook[Any]) -> Iterator[str]:
    yield f"## {playbook.name}\n"
    yield f"{playbook.summary}\n"
    yield f"- Fits: {', '.join(f'`{kind}`' for kind in sorted(playbook.fits))}"
    yield f"- Time-out: {_duration(playbook.timeout)}"
    if playbook.sustain:
        yield f"- Its checks must go on holding for {_duration(playbook.sustain)}"
    if playbook.emergency:
        yield "- May be used in an emergency"
    yield ""
    schema = playbook.arguments.model_json_schema()
    arguments = schema.get("properties", {})
    if not arguments:
        yield "It takes no arguments.\n"
        return
    yield "| argument | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, about in arguments.items():
        default = "required" if name in schema.get("required", ()) else f"`{json.dumps(about.get('default'))}`"
        kind = _cell(_kind(about, schema.get("$defs", {})))
        yield f"| `{name}` | {kind} | {_cell(default)} | {_cell(about.get('description', ''))} |"
    yield ""
    if playbook.name in EXAMPLES:
        yield EXAMPLES[playbook.name]


def _kind(about: dict[str, Any], definitions: dict[str, Any]) -> str:  # noqa: PLR0911 - one case a form of schema
    """A JSON schema's type in words, with its bounds."""
    match about:
        case {"$ref": reference}:
            return _kind(definitions[reference.rsplit("/", 1)[-1]], definitions)
        case {"anyOf": parts}:
            return " or ".join(_kind(part, definitions) for part in parts)
        case {"enum": values}:
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"type": "array", "items": items}:
            return f"list of {_kind(items, definitions)}"
        case {"type": "null"}:
            return "none"
        case _:
            return str(about.get("type", "any JSON value")) + _bounds(about.get("minimum"), about.get("maximum"))


def _bounds(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else f", at most {high}" if high is not None else ""


def _duration(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(page(default_catalogue()))
