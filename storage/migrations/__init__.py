"""The database's history: one file for each revision, applied by `storage.migrate`."""
