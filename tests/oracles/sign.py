"""Signs webhooks as their senders do, and verifies them as their receivers do, with libraries that are not ours.

Standard input is a JSON array of jobs, standard output the array of their results. A job names a `library` and a `task`:
`sign` returns an object of headers (and `body`, where the signature is inside it), `verify` whether the library accepts
`headers` and `body`. Times are in seconds since 1970. The library `hmac` is Python's own: it signs a `text`.
"""

import base64
import hmac
import json
import sys
from datetime import datetime, timezone
from urllib.parse import parse_qsl

import Adyen.util
import nacl.signing
import paddle_billing.Notifications as paddle
import slack_sdk.signature
import standardwebhooks
import stripe
import twilio.request_validator
from hubspot.utils.signature import Signature as HubSpot
from paddle_billing.Notifications.PaddleSignature import PaddleSignature
from square.utils.webhooks_helper import verify_signature as verify_square

ENCODINGS = {
    "hex": lambda mac: mac.hex(),
    "base64": lambda mac: base64.b64encode(mac).decode(),
    "base64url": lambda mac: base64.urlsafe_b64encode(mac).decode().rstrip("="),
}


def mac_of(algorithm, encoding, key, text):
    return ENCODINGS[encoding](hmac.digest(key, text.encode(), algorithm))


def sign_hmac(job):
    key = job["secret"].encode()
    if job.get("key") == "base64":
        key = base64.b64decode(job["secret"])
    return {"mac": mac_of(job["algorithm"], job["encoding"], key, job["text"])}


def sign_stripe(job):
    signed = stripe.WebhookSignature.generate_signature_header(job["body"], job["secret"], job["time"])
    return {"stripe-signature": signed}


def verify_stripe(job, headers):
    return stripe.WebhookSignature.verify_header(job["body"], headers["stripe-signature"], job["secret"], 300)


def sign_slack(job):
    verifier = slack_sdk.signature.SignatureVerifier(job["secret"])
    time = str(job["time"])
    return {
        "x-slack-request-timestamp": time,
        "x-slack-signature": verifier.generate_signature(timestamp=time, body=job["body"]),
    }


def verify_slack(job, headers):
    return slack_sdk.signature.SignatureVerifier(job["secret"]).is_valid_request(job["body"], headers)


def sign_standard(job):
    # The library takes whatever it gets for UTC.
    time = datetime.fromtimestamp(job["time"], tz=timezone.utc)
    signature = standardwebhooks.Webhook(job["secret"]).sign(job["id"], time, job["body"])
    return {"webhook-id": job["id"], "webhook-timestamp": str(job["time"]), "webhook-signature": signature}


def verify_standard(job, headers):
    standardwebhooks.Webhook(job["secret"]).verify(job["body"], headers, json_parse=False)
    return True


def sign_paddle(job):
    signed = f"{job['time']}:{job['body']}".encode()
    mac = PaddleSignature.calculate_hmac(job["secret"], signed).hexdigest()
    return {"paddle-signature": f"ts={job['time']};h1={mac}"}


class PaddleRequest:
    def __init__(self, job, headers):
        self.body = job["body"].encode()
        self.headers = {"Paddle-Signature": headers["paddle-signature"]}


def verify_paddle(job, headers):
    # 300 seconds, as here: the library's own 5 are none for a busy machine.
    return paddle.Verifier(300).verify(PaddleRequest(job, headers), [paddle.Secret(job["secret"])])


def form(job):
    return dict(parse_qsl(job["body"], keep_blank_values=True))


def sign_twilio(job):
    validator = twilio.request_validator.RequestValidator(job["secret"])
    return {"x-twilio-signature": validator.compute_signature(job["url"], form(job))}


def verify_twilio(job, headers):
    validator = twilio.request_validator.RequestValidator(job["secret"])
    return validator.validate(job["url"], form(job), headers["x-twilio-signature"])


def sign_square(job):
    # The library only verifies.
    mac = mac_of("sha256", "base64", job["secret"].encode(), job["url"] + job["body"])
    return {"x-square-hmacsha256-signature": mac}


def verify_with_square(job, headers):
    return verify_square(
        request_body=job["body"],
        signature_header=headers["x-square-hmacsha256-signature"],
        signature_key=job["secret"],
        notification_url=job["url"],
    )


def sign_hubspot(job):
    version, time = job["version"], str(job["time"] * 1000)
    signature = HubSpot.get_signature(job["secret"], job["body"], version, job["url"], "POST", time)
    if version == "v3":
        return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": time}
    return {"x-hubspot-signature": signature, "x-hubspot-signature-version": version}


def verify_hubspot(job, headers):
    version = job["version"]
    name = "x-hubspot-signature-v3" if version == "v3" else "x-hubspot-signature"
    time = headers.get("x-hubspot-request-timestamp")
    return HubSpot.is_valid(headers[name], job["secret"], job["body"], job["url"], "POST", version, time)


def sign_adyen(job):
    notification = json.loads(job["body"])
    item = notification["notificationItems"][0]["NotificationRequestItem"]
    signature = Adyen.util.generate_notification_sig(item, job["secret"]).decode()
    item["additionalData"] = {"hmacSignature": signature}
    return {"body": json.dumps(notification)}


def verify_adyen(job, headers):
    return Adyen.util.is_valid_hmac_notification(json.loads(job["body"]), job["secret"])


def discord_key(job):
    """The secret is the seed of a key pair, of which receivers know the public half."""
    return nacl.signing.SigningKey(bytes.fromhex(job["seed"]))


def sign_nacl(job):
    key, time = discord_key(job), str(job["time"])
    signature = key.sign((time + job["body"]).encode()).signature
    return {"x-signature-timestamp": time, "x-signature-ed25519": signature.hex()}


def verify_nacl(job, headers):
    signed = (headers["x-signature-timestamp"] + job["body"]).encode()
    discord_key(job).verify_key.verify(signed, bytes.fromhex(headers["x-signature-ed25519"]))
    return True


def sign_standard_asymmetric(job):
    """`v1a` of Standard Webhooks, which its Python library has no code for."""
    signed = f"{job['id']}.{job['time']}.{job['body']}".encode()
    signature = base64.b64encode(discord_key(job).sign(signed).signature).decode()
    return {"webhook-id": job["id"], "webhook-timestamp": str(job["time"]), "webhook-signature": f"v1a,{signature}"}


def verify_standard_asymmetric(job, headers):
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{job['body']}".encode()
    signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
    discord_key(job).verify_key.verify(signed, signature)
    return True


LIBRARIES = {
    "adyen": (sign_adyen, verify_adyen),
    "hmac": (sign_hmac, None),
    "hubspot": (sign_hubspot, verify_hubspot),
    "nacl": (sign_nacl, verify_nacl),
    "nacl-v1a": (sign_standard_asymmetric, verify_standard_asymmetric),
    "paddle": (sign_paddle, verify_paddle),
    "slack": (sign_slack, verify_slack),
    "square": (sign_square, verify_with_square),
    "standardwebhooks": (sign_standard, verify_standard),
    "stripe": (sign_stripe, verify_stripe),
    "twilio": (sign_twilio, verify_twilio),
}


def result(job):
    sign, verify = LIBRARIES[job["library"]]
    if job["task"] == "sign":
        return sign(job)
    try:
        return verify(job, {name.lower(): value for name, value in job["headers"].items()})
    except Exception:
        # Their ways to say no are as many as they are.
        return False


json.dump([result(job) for job in json.load(sys.stdin)], sys.stdout)
