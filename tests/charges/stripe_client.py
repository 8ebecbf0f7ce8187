"""Creates charges with Stripe's own client library, which retries by itself.

    stripe_client.py URL NAME...

Each charge is made with its name as the key; those that begin with "twice" by two threads at once. Prints a line for each
answer: the name and the id of the charge, or that it failed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import stripe

url, *names = sys.argv[1:]
client = stripe.StripeClient("sk_test_0", base_addresses={"api": url}, max_network_retries=8)


def create(name):
    try:
        charge = client.v1.charges.create(
            params={"amount": 4200, "currency": "eur", "description": name},
            options={"idempotency_key": name},
        )
    except stripe.APIError:
        return f"{name} failed"
    return f"{name} {charge.id}"


with ThreadPoolExecutor(max_workers=32) as pool:
    tasks = [name for name in names for _ in range(2 if name.startswith("twice") else 1)]
    for line in pool.map(create, tasks):
        print(line)
