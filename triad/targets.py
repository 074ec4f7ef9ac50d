"""Which credential reaches a system: the acting one for the runner, the observing one for every probe and preview."""

from operations.playbook import Target
from operations.systems import BackupFolder, Database, Inventory, System, resolve_secret


def acting(system: System, inventory: Inventory) -> Target:
    """The system with the credential that playbooks act with. A backup folder brings its database's.

    Raises:
        NotFound: the secret is missing.
    """
    return _target(system, inventory, act=True)


def observing(system: System, inventory: Inventory) -> Target:
    """The system with the read-only credential.

    Raises:
        NotFound: the secret is missing.
    """
    return _target(system, inventory, act=False)


def _target(system: System, inventory: Inventory, *, act: bool) -> Target:
    database = inventory.get(system.database) if isinstance(system, BackupFolder) else system
    if not isinstance(database, Database):
        return Target(system)
    return Target(system, resolve_secret(database.act if act else database.observe))
