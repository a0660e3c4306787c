"""A stub of a risk engine: what it answers when a login asks, by the address that the login comes from."""

NEW_PLACES = {"198.51.100.7"}
KNOWN_ATTACKERS = {"192.0.2.66"}


def answer(message: dict) -> dict:
    """The answer to a message of the enrich action: all keys are optional, and no action means allow."""
    ip = message["data"]["event"]["properties"]["ip"]
    if ip in KNOWN_ATTACKERS:
        return {"action": "block", "reason": f"{ip} is on the list of attackers", "user_message": "This login was refused."}
    if ip in NEW_PLACES:
        return {
            "action": "challenge",
            "data": {"score": 70},
            "reason": "never seen from there",
            "user_message": "Please enter the code that we have sent you.",
        }
    return {"action": "allow", "data": {"score": 3}, "custom_claims": {"risk": "low"}}
