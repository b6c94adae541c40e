"""A PostgreSQL server of the tests' own: its data in a temporary folder, gone when they end.

The server refuses to run as root, so root starts it as the user `postgres`, whom the package makes.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

import psycopg

PASSWORD: Final = "pa$$ word/ÿ"  # noqa: S105 -- of this server alone
"""Of the only role, `importer`; letters that an address must escape."""
ESCAPED: Final = "pa%24%24%20word%2F%C3%BF"
FOUND_IN: Final = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr/pgsql")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        places = [one for folder in FOUND_IN for one in Path(folder).glob(f"*/bin/{name}")]
        assert places, f"{name} is missing: apt-get install postgresql"
        found = str(max(places))
    return found


class PostgresServer:
    """A running server; its databases come by `database`."""

    def __init__(self) -> None:
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.folder = Path(tempfile.mkdtemp(prefix="rd-import-postgres-"))
        if self._as:
            shutil.chown(self.folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._databases = 0
        secret = self.folder / "password"
        secret.write_text(PASSWORD, "utf-8")
        if self._as:
            shutil.chown(secret, "postgres")
        self._run(
            _program("initdb"), "-D", self.folder / "data", "-U", "importer", "--no-sync",
            "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        # fsync matters when the machine fails, which no test here lets it do.
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        settings += f" -c unix_socket_directories={self.folder} -c max_connections=200"
        self._control("start", "-o", settings, "-l", self.folder / "log")

    def stop(self) -> None:
        """Stop at once, as a failing machine does; clients see their connections break."""
        self._control("stop", "-m", "immediate")

    def database(self) -> str:
        """Make a new database and give its address, with the password."""
        self._databases += 1
        name = f"ledger_{self._databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        return self.address(name)

    def address(self, database: str) -> str:
        return f"postgresql://importer:{ESCAPED}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _control(self, *words: object) -> None:
        self._run(_program("pg_ctl"), "-D", self.folder / "data", "-w", *words)

    def _run(self, *words: object) -> None:
        # Output to a file: the server would keep a pipe open, and the caller wait for its end.
        with (self.folder / "output").open("ab") as output:
            subprocess.run(
                [*self._as, *map(str, words)],
                check=True,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
