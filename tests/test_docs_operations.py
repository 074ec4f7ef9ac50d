"""The pages on roles, systems and a server of one's own say what the code says."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from operations.model import Role
from operations.playbooks.config import ApplyChangeArguments
from operations.playbooks.document import EXAMPLES
from operations.systems import BackupFolder, ConfigFile, Database, HttpService, LogFolder, SystemKind, load_inventory
from storage.roles import DATABASE, DatabaseRole, database_statements, role_statements

PAGES = Path(__file__).parent.parent / "docs" / "operations"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_sql_for_a_server_of_ones_own_is_what_the_embedded_server_is_given() -> None:
    placeholders = {role: f"{role.removeprefix('triad_').upper()}-PASSWORD" for role in DatabaseRole}
    statements = role_statements(placeholders) + database_statements(DATABASE)
    assert blocks("own-postgresql.md", "sql") == ["".join(f"{statement};\n" for statement in statements)]


def test_the_examples_of_systems_make_an_inventory_with_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "systems.toml"
    path.write_text("\n".join(blocks("systems.md", "toml")))
    assert [system.kind for system in load_inventory(path).systems] == list(get_args(SystemKind))


@pytest.mark.parametrize("model", [Database, LogFolder, BackupFolder, ConfigFile, HttpService])
def test_the_page_on_systems_names_every_field(model: type[BaseModel]) -> None:
    page = (PAGES / "systems.md").read_text()
    assert [name for name in model.model_fields if not re.search(rf"`{name}`|^{name} = ", page, re.MULTILINE)] == []


@pytest.mark.parametrize("role", Role)
def test_the_page_on_roles_has_a_row_for_every_role(role: Role) -> None:
    assert f"\n| `{role.value}` | " in (PAGES / "roles.md").read_text()


def test_the_example_of_a_change_is_one_that_the_playbook_takes() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", EXAMPLES["config.apply_change"], re.MULTILINE | re.DOTALL)
    changes = ApplyChangeArguments.model_validate_json(example).changes
    assert [change.remove for change in changes] == [False, False, True]
