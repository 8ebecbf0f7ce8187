"""Sends webhooks, signed by Stripe's own library and by the reference library of Standard Webhooks.

    senders.py URL STRIPE_SECRET STANDARD_SECRET

Each event is sent twice, the second time signed anew, and a third time signed with another secret. Prints a line for each
answer: the endpoint, the status, and what the body says.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

from standardwebhooks import Webhook
from stripe import WebhookSignature

url, stripe_secret, standard_secret = sys.argv[1:]


def send(endpoint, body, headers):
    request = urllib.request.Request(url + endpoint, body.encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
            print(endpoint, response.status, answer["outcome"], answer["replayed"])
    except urllib.error.HTTPError as error:
        print(endpoint, error.code)


def stripe(endpoint, body, secret, age):
    header = WebhookSignature.generate_signature_header(body, secret, int(time.time()) - age)
    send(endpoint, body, {"Stripe-Signature": header})


def standard(endpoint, body, secret, age):
    then = datetime.now(timezone.utc) - timedelta(seconds=age)
    signature = Webhook(secret).sign("msg_2Lh9KRb0pzN4LePd3XiA4v12Axj", then, body)
    headers = {
        "webhook-id": "msg_2Lh9KRb0pzN4LePd3XiA4v12Axj",
        "webhook-timestamp": str(int(then.timestamp())),
        "webhook-signature": signature,
    }
    send(endpoint, body, headers)


event = {
    "id": "evt_1",
    "object": "event",
    "type": "customer.subscription.updated",
    "created": 1700000000,
    "data": {"object": {"id": "zażółć sub", "status": "active"}},
}
order = {"type": "order.paid", "data": {"id": "zażółć 🦀", "status": "paid", "version": 1}}
for endpoint, sign, body, secret in [
    ("/hooks/stripe", stripe, event, stripe_secret),
    ("/hooks/standard", standard, order, standard_secret),
    ("/hooks/standard/queued", standard, order, standard_secret),
]:
    # As many senders do: as characters, and with white space.
    body = json.dumps(body, ensure_ascii=False, indent=2)
    sign(endpoint, body, secret, 60)
    sign(endpoint, body, secret, 0)
    sign(endpoint, body, "whsec_bm90IHRoZSBzZWNyZXQ=", 0)
