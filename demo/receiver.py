"""An HTTP server that stands for the systems that actionflow tells: verifies each request's signature with the stock
`standardwebhooks` library and prints one line for it."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

COLOURS = {"good": "\033[32m", "retry": "\033[33m", "bad": "\033[31m"}


class Ledger:
    """What has arrived. Shared by the server's threads and the driver."""

    def __init__(self, failures_first: dict[str, int], answers: dict[str, Callable[[dict], dict]]):
        self.arrived = threading.Condition()
        self.secrets: dict[str, Webhook] = {}
        self.failures_left = dict(failures_first)
        # What endpoints answer that are asked and not only told.
        self.answers = answers
        # Accepted deliveries by (endpoint, type); a delivery's id counts once, however often it comes.
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.accepted_ids: set[str] = set()
        self.rejected = 0
        self.unavailable = 0

    def trust(self, endpoint: str, secret: str) -> None:
        self.secrets[endpoint] = Webhook(secret)

    def record(self, endpoint: str, headers: dict[str, str], body: bytes) -> tuple[int, str, dict]:
        """The status to answer, a word for the line that is printed, and the message."""
        with self.arrived:
            try:
                message = self.secrets[endpoint].verify(body, headers)
            except (KeyError, ValueError, WebhookVerificationError) as error:
                self.rejected += 1
                return 400, f"bad signature: {error}", {}
            if self.failures_left.get(endpoint, 0) > 0:
                self.failures_left[endpoint] -= 1
                self.unavailable += 1
                return 503, "signature good, answered 503: it will come again", message
            delivery = headers["webhook-id"]
            if delivery not in self.accepted_ids:
                self.accepted_ids.add(delivery)
                self.accepted[endpoint, message["type"]] += 1
            self.arrived.notify_all()
            return 200, "signature good", message

    def wait_for(self, expected: Counter[tuple[str, str]], seconds: float) -> bool:
        """Whether everything expected arrived in time."""
        with self.arrived:
            return self.arrived.wait_for(lambda: not expected - self.accepted or self.rejected > 0, seconds) and not self.rejected


class Handler(BaseHTTPRequestHandler):
    """One request: read, verify, answer, print."""

    protocol_version = "HTTP/1.1"
    # Headers and body of an answer are two writes, which Nagle's algorithm would delay.
    disable_nagle_algorithm = True
    ledger: Ledger
    printing = threading.Lock()

    def do_POST(self) -> None:
        endpoint = self.path.strip("/")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, verdict, message = self.ledger.record(endpoint, headers, body)
        answer = b""
        if status == 200 and endpoint in self.ledger.answers:
            decision = self.ledger.answers[endpoint](message)
            verdict += f", answered {decision['action']}"
            answer = json.dumps(decision).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.print_line(endpoint, headers.get("webhook-id", "?"), status, verdict, message)

    def print_line(self, endpoint: str, delivery: str, status: int, verdict: str, message: dict) -> None:
        data = message.get("data", {})
        user = data.get("user", {})
        details = " ".join(str(part) for part in (user.get("email"), json.dumps(data["variables"]) if data.get("variables") else None) if part)
        clock = time.strftime("%H:%M:%S")
        line = f"{clock}  {endpoint:<10}  {message.get('type', '?'):<12}  customer {user.get('id', '?'):>5}  {details}  [{delivery}: {verdict}]"
        if sys.stdout.isatty():
            line = COLOURS["good" if status == 200 else "retry" if status == 503 else "bad"] + line + "\033[0m"
        with self.printing:
            print(line, flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """Silences the library's own log; each request has its line already."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 refuses connections when the worker opens many at once.
    request_queue_size = 128


def start(ledger: Ledger) -> str:
    """Serves on a free port in the background; returns the base URL."""
    handler = type("LedgerHandler", (Handler,), {"ledger": ledger})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
