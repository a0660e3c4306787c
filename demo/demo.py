"""Runs the demo: a cluster, a worker and a receiver; changes to customers; logins; webhooks; and an exact count of what has to arrive."""

import os
import signal
import sys
import time
from collections import Counter

import logins
import receiver
import risk
import webhooks
from services import Cluster, Problem, Worker

PURCHASES = int(os.environ.get("DEMO_PURCHASES", "200"))
ONCE = os.environ.get("ONCE", "") not in ("", "0")
DEADLINE_SECONDS = 120
FAILURES_FIRST = {"newsletter": 3}
# Which endpoints each event must reach, by the flows of flows.sql.
EXPECTED = {
    "user-created": ["crm", "newsletter"],
    "user-updated": ["crm"],
    "user-deleted": ["crm"],
    "purchase": ["loyalty"],
}
EVENT_OF_STATEMENT = {"INSERT": "user-created", "UPDATE": "user-updated", "DELETE": "user-deleted"}


def say(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    with receiver.Handler.printing:
        print(f"{bold}==>{plain} {text}", flush=True)


def prepare(cluster: Cluster, ledger: receiver.Ledger) -> None:
    say("A private PostgreSQL 18 with the extension")
    cluster.start()
    cluster.psql("-c", "create database shop", database="postgres")
    cluster.psql("-c", "create extension actionflow", "-c", "create role delivery login", "-c", "select actionflow.grant_worker('delivery')")
    cluster.psql("-f", "customers.sql")
    say(f"Loaded {cluster.psql('-c', 'select count(*) from customers')[0]} real customers")
    for line in cluster.psql("-qf", "endpoints.sql", receiver=receiver.start(ledger)):
        endpoint, secret = line.split()
        ledger.trust(endpoint, secret)
    cluster.psql("-f", "flows.sql")
    say("Endpoints crm, newsletter, loyalty and risk; flows welcome, profile-changed, goodbye, thank-you and login")


def change_customers(cluster: Cluster) -> Counter[tuple[str, str]]:
    """Changes the table and plays purchases in; returns what must arrive, by endpoint and type, as psql counted the rows."""
    expected: Counter[tuple[str, str]] = Counter()

    def expect(event: str, count: int) -> None:
        expected.update({(endpoint, event): count for endpoint in EXPECTED[event]})

    for tag in cluster.psql("-f", "changes.sql"):
        words = tag.split()
        expect(EVENT_OF_STATEMENT[words[0]], int(words[-1]))
        say(f"{words[0].lower()}: {words[-1]} customers")
    events = cluster.psql("-qf", "purchases.sql", purchases=PURCHASES)
    expect("purchase", len(events))
    say(f"purchases played in: {len(events)}")
    return expected


def wait_for_all(cluster: Cluster, worker: Worker, ledger: receiver.Ledger, expected: Counter[tuple[str, str]]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not ledger.wait_for(expected, 1):
        worker.check()
        if ledger.rejected:
            raise Problem(f"{ledger.rejected} requests had a bad signature", "See the lines above.")
        if time.monotonic() > deadline:
            raise Problem(f"after {DEADLINE_SECONDS} s these are missing: {listed(expected - ledger.accepted)}", f"The worker's log is {worker.log}.")
    # The receiver has everything expected; whatever is still on its way would be too much.
    while int(cluster.psql("-c", "select count(*) from actionflow.deliveries where state in ('pending', 'running')")[0]) > 0:
        if time.monotonic() > deadline:
            raise Problem("deliveries stay unfinished though all requests have arrived", f"The worker's log is {worker.log}.")
        time.sleep(0.1)
    surplus = ledger.accepted - expected
    if surplus:
        raise Problem(f"more arrived than expected: {listed(surplus)}", "Look at the view actionflow.deliveries.")
    say(f"All {expected.total()} expected requests arrived, every signature is good; {ledger.unavailable} came again after a 503")


def listed(counts: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} of {event} to {endpoint}" for (endpoint, event), count in sorted(counts.items()))


def stay(cluster: Cluster, worker: Worker) -> None:
    say(f"Connect:  {cluster.psql_command()}")
    say("Then try: insert into customers (id, email, first_name) values (10006, 'you@example.com', 'You');")
    say("          select * from actionflow.deliveries order by id desc limit 5;")
    say("          select actionflow.emit_event('login', '42', '{\"ip\": \"203.0.113.9\"}');")
    say(f"Metrics:  http://{worker.address}/metrics")
    say("Ctrl-C ends the demo")
    while True:
        time.sleep(1)
        worker.check()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster, worker, ledger = Cluster(), Worker(), receiver.Ledger(FAILURES_FIRST, {"risk": risk.answer})
    try:
        started = time.monotonic()
        prepare(cluster, ledger)
        worker.start(role="delivery")
        say("The worker is ready")
        expected = change_customers(cluster)
        expected += logins.log_in(cluster, say)
        expected += webhooks.send_orders(cluster, worker, say)
        wait_for_all(cluster, worker, ledger, expected)
        logins.show_log(cluster, say)
        say(f"{time.monotonic() - started:.1f} s in all")
        if not ONCE:
            stay(cluster, worker)
        return 0
    except KeyboardInterrupt:
        say(f"Ending; the data stays in {cluster.data} until the next run")
        return 0 if not ONCE else 130
    except Problem as problem:
        message, hint = problem.args
        print(f"error: {message}\nhint: {hint}", file=sys.stderr)
        return 1
    finally:
        # A second Ctrl-C must not leave a server behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.stop()
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
