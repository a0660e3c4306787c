"""Three logins that ask the risk engine, and what came of each."""

import json
import time
from collections import Counter
from collections.abc import Callable

from services import Cluster, Problem

DEADLINE_SECONDS = 30
# What risk.py answers to each address.
LOGINS = {"203.0.113.9": "allow", "198.51.100.7": "challenge", "192.0.2.66": "block"}
# The worker's connection that takes requests, while it waits for one.
LISTENS = """select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'actionflow-worker enrich takes' and wait_event = 'Extension'"""
LOG = """select outcome, status, duration_ms, coalesce(reason, '-'), e.id is not null
    from actionflow.enrich_attempts as a left join actionflow.events as e on e.id = a.event_id order by a.request_id"""


def log_in(cluster: Cluster, say: Callable[[str], None]) -> Counter[tuple[str, str]]:
    """Logs in from each address; returns what must arrive, by endpoint and type."""
    wait_until(lambda: int(cluster.psql("-c", LISTENS)[0]) > 0, "the worker takes no enrich requests")
    expected: Counter[tuple[str, str]] = Counter()
    for ip, action in LOGINS.items():
        answer = json.loads(cluster.psql("-qf", "login.sql", ip=ip)[0])
        if answer["action"] != action:
            raise Problem(f"the login from {ip} is answered {json.dumps(answer)}", "Read actionflow.enrich_attempts.")
        say(f"login from {ip}: {action}; emit_event returned {json.dumps(answer)}")
        expected["risk", "login"] += 1
        # A blocked login is rolled back, and its notify with it.
        expected["crm", "login"] += action != "block"
    return expected


def show_log(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Says what the log has of the logins: of all of them, whatever became of their transactions."""
    lines: list[str] = []

    def is_complete() -> bool:
        lines[:] = cluster.psql("-F", "\t", "-c", LOG)
        return len(lines) >= len(LOGINS)

    wait_until(is_complete, "the log of enrich attempts is not complete")
    for line in lines:
        outcome, status, milliseconds, reason, is_committed = line.split("\t")
        kept = "the event is there: committed" if is_committed == "t" else "no event: rolled back"
        say(f"log: {outcome}, status {status}, {milliseconds} ms, reason: {reason}; {kept}")


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Problem(otherwise, "The worker's log is .dev/demo/worker.log.")
        time.sleep(0.05)
