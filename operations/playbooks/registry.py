"""The playbooks that Triad brings along, as one catalogue."""

from pathlib import Path

from operations.playbook import Catalogue
from operations.playbooks.backup import CreateBackup
from operations.playbooks.backup_restore import RestoreTest
from operations.playbooks.cache import ClearExpired
from operations.playbooks.config import ApplyChange
from operations.playbooks.host import ObserveHost
from operations.playbooks.http import HttpCheck
from operations.playbooks.logs import Rotate
from operations.playbooks.observe_database import ObserveDatabase
from operations.playbooks.postgres import ReindexConcurrently, VacuumAnalyze


def default_catalogue(home: Path | None = None) -> Catalogue:
    """All playbooks of this release; `home` is the folder whose disk `observe.host` measures, the user's by default."""
    return Catalogue(
        (
            ObserveDatabase(),
            ObserveHost(home),
            HttpCheck(),
            VacuumAnalyze(),
            ReindexConcurrently(),
            CreateBackup(),
            RestoreTest(),
            Rotate(),
            ClearExpired(),
            ApplyChange(),
        )
    )
