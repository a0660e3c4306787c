"""The private PostgreSQL and the worker that the demo runs."""

import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".dev" / "demo"
PROGRAMS = ROOT / ".dev" / "pg18" / "bin"
WORKER = ROOT / "target" / "release" / "actionflow-worker"
# Names the socket only: the server listens on no network port.
PORT = "5432"
# Linux limits a socket's path to 107 bytes.
MAX_SOCKET_PATH = 107


class Problem(Exception):
    """Something that the person at the keyboard should read, with a hint."""


class Cluster:
    """A PostgreSQL of our own below FOLDER, which the server's user alone may enter: so it asks for no password."""

    def __init__(self) -> None:
        self.data = FOLDER / "data"
        self.log = FOLDER / "server.log"

    def start(self) -> None:
        if len(os.fsencode(FOLDER / f".s.PGSQL.{PORT}")) > MAX_SOCKET_PATH:
            raise Problem(f"the path {FOLDER} is too long for a socket", "Move the checkout to a shorter path.")
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--pgdata={self.data}")
        options = f"-c listen_addresses='' -c port={PORT} -c unix_socket_directories={shlex.quote(str(FOLDER))} -c shared_preload_libraries=actionflow"
        self.run("pg_ctl", "start", "--wait", "--silent", f"--pgdata={self.data}", f"--log={self.log}", f"--options={options}")

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "stop", "--mode=fast", "--wait", "--silent", f"--pgdata={self.data}", check=False)

    def run(self, program: str, *arguments: str, check: bool = True) -> None:
        """Runs a server program as the server's user, because PostgreSQL refuses to run as root."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        # A session of its own, so that Ctrl-C reaches us and not the server.
        done = subprocess.run(
            [*user, PROGRAMS / program, *arguments], cwd=FOLDER, start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )
        if check and done.returncode != 0:
            raise Problem(f"{program} failed:\n{done.stdout}{tail(self.log)}", f"The server's log is {self.log}.")

    def psql(self, *arguments: str, database: str = "shop", **variables: str | int) -> list[str]:
        """Runs psql in the demo's folder and returns what it printed, by line; stops at the first error."""
        given = [f"--set={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [PROGRAMS / "psql", "-XAt", "-F ", "--set=ON_ERROR_STOP=1", *given, *self.address(database), *arguments],
            cwd=Path(__file__).parent, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )
        if done.returncode != 0:
            raise Problem(f"psql {' '.join(arguments)} failed:\n{done.stderr}", f"The server's log is {self.log}.")
        return done.stdout.splitlines()

    def address(self, database: str = "shop") -> list[str]:
        return ["-h", str(FOLDER), "-p", PORT, "-U", "postgres", "-d", database]

    def psql_command(self) -> str:
        return shlex.join([str(PROGRAMS / "psql"), *self.address()])


class Worker:
    """The worker as a child, with the least-privileged role of its own."""

    def __init__(self) -> None:
        self.log = FOLDER / "worker.log"
        self.address = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, role: str) -> None:
        url = f"postgresql://{role}@{quote(str(FOLDER), safe='')}:{PORT}/shop"
        # However the demo ends, its worker ends with it.
        tied = ["setpriv", "--pdeathsig", "TERM"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*tied, WORKER, "--database-url", url, "--listen", self.address, "--allow-private-addresses"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while not self.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise Problem(f"the worker did not become ready:\n{tail(self.log)}", f"Its log is {self.log}.")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def check(self) -> None:
        if self.process and self.process.poll() is not None:
            raise Problem(f"the worker ended with status {self.process.returncode}:\n{tail(self.log)}", f"Its log is {self.log}.")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
