"""The SQLite database and its migrations.

Any number of processes share it: WAL mode lets readers and one writer go on together, and every
change is one transaction that is on disk before it is acknowledged.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from mizzen.host.files import explained
from mizzen.model.errors import Failure

MIGRATIONS = (
    """
    CREATE TABLE machine (
        name TEXT PRIMARY KEY,
        record TEXT NOT NULL           -- model.machine.Machine as JSON
    ) STRICT;
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        lines TEXT NOT NULL,           -- JSON array, of the first occurrence
        first_seen REAL NOT NULL,
        last_seen REAL NOT NULL,
        count INTEGER NOT NULL,
        UNIQUE (source, fingerprint)
    ) STRICT;
    CREATE TABLE followed (            -- how far what a source writes has been taken in
        source TEXT PRIMARY KEY,
        state BLOB NOT NULL            -- JSON, read by whoever wrote it
    ) STRICT;
    CREATE TABLE fact (                -- what was found out once and is remembered
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE service (
        name TEXT PRIMARY KEY,
        record TEXT NOT NULL           -- model.service.Service as JSON
    ) STRICT;
    CREATE TABLE release (
        service TEXT NOT NULL,
        number INTEGER NOT NULL,
        record TEXT NOT NULL,          -- model.service.Release as JSON
        PRIMARY KEY (service, number)
    ) STRICT;
    CREATE TABLE underway (            -- rollouts that are not over, one a service
        service TEXT PRIMARY KEY,
        number INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        pid_start INTEGER NOT NULL,
        since REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        pipeline TEXT NOT NULL,
        operation TEXT NOT NULL,
        key TEXT NOT NULL,             -- what its outcome is remembered under
        digest TEXT NOT NULL,          -- of the operation's inputs
        label TEXT NOT NULL,
        level INTEGER NOT NULL,
        state TEXT NOT NULL,           -- model.job.JobState
        confirmed INTEGER NOT NULL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        attempts INTEGER NOT NULL,
        error TEXT NOT NULL            -- JSON array of what, why and fix, or ""
    ) STRICT;
    CREATE INDEX job_of ON job (operation, key, id);
    CREATE INDEX job_state ON job (state, id);
    CREATE TABLE job_line (            -- their logs
        job INTEGER NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (job, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outcome (             -- what operations have come to
        operation TEXT NOT NULL,
        key TEXT NOT NULL,             -- a build's digest, or what a publication sets
        pipeline TEXT NOT NULL,
        digest TEXT NOT NULL,          -- of the inputs that gave the value, or ""
        value BLOB,                    -- JSON
        at REAL NOT NULL,
        sure INTEGER NOT NULL,         -- 0 while another value is being set, or setting it failed
        failed_digest TEXT NOT NULL,   -- of the inputs that failed last, or ""
        error TEXT NOT NULL,           -- why, as job.error
        job INTEGER NOT NULL,          -- the last that changed this
        PRIMARY KEY (operation, key)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""Scripts, in order; ``PRAGMA user_version`` counts those already applied. Append only."""


def connect(path: Path, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open a database, creating or migrating it first. migrations: its own, in order."""
    with explained("cannot open the database"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            connection = sqlite3.connect(path, timeout=30, isolation_level=None)
            stack.callback(connection.close)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection, migrations)
        except sqlite3.DatabaseError as error:
            raise Failure(
                "cannot open the database",
                f"{path}: {error}",
                "check its permissions and disk space",
            ) from error
        stack.pop_all()
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a database without changing it; an empty one if there is none.

    One that an older Mizzen wrote is copied into memory and migrated there. Raises Failure.
    """
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.ExitStack() as stack:
        stack.callback(memory.close)
        try:
            if path.exists():
                found = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
                stack.callback(found.close)
                if _version(found) == len(MIGRATIONS):
                    stack.pop_all()
                    memory.close()
                    return found
                found.backup(memory)
                found.close()
            _migrate(memory, MIGRATIONS)
        except sqlite3.DatabaseError as error:
            raise Failure(
                "cannot read the database", f"{path}: {error}", "check its permissions"
            ) from error
        stack.pop_all()
    return memory


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block as one transaction, begun with the write lock held."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    if _version(connection) == len(migrations):
        return
    with transaction(connection):
        version = _version(connection)
        if version > len(migrations):
            raise Failure(
                "cannot open the database",
                f"a newer Mizzen wrote it (version {version}, this one knows {len(migrations)})",
                "run that newer Mizzen",
            )
        for script in migrations[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
