"""A shop that sends webhooks: signs them with the stock `standardwebhooks` library and posts them to the worker."""

import base64
import json
import secrets
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone

from services import Cluster, Problem, Worker
from standardwebhooks.webhooks import Webhook

ORDER = {"customer": {"id": 10001}, "total": "19.90"}


def send_orders(cluster: Cluster, worker: Worker, say: Callable[[str], None]) -> Counter[tuple[str, str]]:
    """Sends an order, the same once more, and one that somebody has changed; returns what must arrive, by endpoint and type."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    trigger, path = cluster.psql("-qf", "webhook.sql", secret=secret)[-1].split()
    url = f"http://{worker.address}{path}"
    body = json.dumps(ORDER)
    headers = signed(secret, body)

    status, data = post(url, headers, body)
    check(status == 202 and data["data"]["started"] == 1, status, data)
    say(f"webhook of an order: {status} {json.dumps(data)}")
    for line in cluster.psql("-c", f"select actionflow.explain_run(id) from actionflow.runs where trigger_id = {trigger}")[:2]:
        say(f"  {line}")
    status, data = post(url, headers, body)
    check(status == 200 and data["data"]["duplicate"], status, data)
    say(f"the same again, as after a lost answer: {status}, started {data['data']['started']}")
    status, data = post(url, headers, body.replace("19.90", "0.01"))
    check(status == 401, status, data)
    reason = cluster.psql("-c", f"select reason from actionflow.webhook_rejections where trigger_id = {trigger}")[0]
    say(f"with another total under the same signature: {status}; the owner reads: {reason}")
    return Counter({("crm", "action-flow-started"): 1})


def signed(secret: str, body: str) -> dict[str, str]:
    """The headers that prove who has sent this body."""
    identifier, now = f"msg_{secrets.token_hex(8)}", datetime.now(timezone.utc)
    return {
        "content-type": "application/json",
        "webhook-id": identifier,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(identifier, now, body),
    }


def post(url: str, headers: dict[str, str], body: str) -> tuple[int, dict]:
    """The status and the JSON of the answer."""
    request = urllib.request.Request(url, body.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check(is_expected: bool, status: int, data: dict) -> None:
    if not is_expected:
        raise Problem(f"the webhook was answered {status} {json.dumps(data)}", "Read actionflow.webhook_rejections.")
