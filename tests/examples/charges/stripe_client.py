"""Creates charges with Stripe's own client library, which retries by itself.

    stripe_client.py URL TIMES NAME=AMOUNT...

Each charge is made with its name as the key, so many times at once. Prints one JSON object: what came of each, and the
charges that are listed afterwards.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import stripe

url, times, *charges = sys.argv[1:]
client = stripe.StripeClient("sk_test_acme", base_addresses={"api": url}, max_network_retries=30)


def create(charge):
    name, amount = charge.split("=")
    params = {"amount": int(amount), "currency": "eur", "source": "tok_visa", "description": name}
    try:
        charge = client.v1.charges.create(params=params, options={"idempotency_key": name})
    except stripe.StripeError as error:
        should_retry = (error.headers or {}).get("Stripe-Should-Retry")
        refusal = {"kind": type(error).__name__, "status": error.http_status, "should_retry": should_retry}
        return {"description": name, "error": refusal}
    return {"description": name, "id": charge.id}


tasks = [charge for charge in charges for _ in range(int(times))]
with ThreadPoolExecutor(max_workers=16) as pool:
    answers = list(pool.map(create, tasks))
pages = client.v1.charges.list(params={"limit": 20})
listed = [{name: charge[name] for name in ("description", "amount", "id")} for charge in pages.auto_paging_iter()]
json.dump({"answers": answers, "listed": listed}, sys.stdout)
