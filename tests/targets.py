"""Runs every test target of the workspace and prints how long each took. Called by `tests/run`.

Most targets wait: for time-outs to end, for servers to start, for processes that are to be killed. So two run at once, each
with more threads than there are processors. Those in ALONE have leases that end in real time, or need a share of the
machine to make progress between two kills: they run one after another, before the others. `RUST_TEST_THREADS` and
`TEST_TARGETS_AT_ONCE` change both.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

CARGO = ["cargo", "test"]
WORKSPACE = ["--workspace", "--all-features"]
ALONE = ["conformance", "transfers", "chaos", "payments", "orders", "redis_store", "valkey_store", "sqlite_store"]
# Of the others, those that take longest begin first, so that none of them is left over at the end.
LONGEST = ["scenarios", "compile_errors", "inbox", "charges", "webhooks", "postgres_store", "transactions_postgres"]
THREADS = os.environ.setdefault("RUST_TEST_THREADS", "4")
# Of the first two, processes share a file or a server, and their clients give up after a while. The last one mostly waits.
OWN_THREADS = {"payments": "1", "transfers": "2", "conformance": "8"}
AT_ONCE = int(os.environ.get("TEST_TARGETS_AT_ONCE", "2"))


def targets(metadata):
    """The names of the targets, each with the arguments that select it. All unit tests are one target, and so are all
    examples in documentation. One is a package of its own: the tests of numbers with other features of serde_json."""
    other = os.path.join(metadata["target_directory"], "tests", "arbitrary_precision")
    other = ["--manifest-path", "tests/arbitrary_precision/Cargo.toml", "--locked", "--target-dir", other]
    names = [target["name"] for package in metadata["packages"] for target in package["targets"] if target["kind"] == ["test"]]
    names.sort(key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    selected = {name: ["--test", name] for name in names}
    selected = {**selected, "documentation": ["--doc"], "unit tests": ["--lib", "--bins", "--examples"]}
    selected = {name: WORKSPACE + arguments for name, arguments in selected.items()}
    return {**selected, "arbitrary_precision": other}


def run(name, arguments, log):
    began = time.monotonic()
    threads = {"RUST_TEST_THREADS": OWN_THREADS.get(name, THREADS)}
    with open(log, "w") as output:
        status = subprocess.run(
            CARGO + arguments, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ | threads
        )
    return name, log, status.returncode == 0, time.monotonic() - began


def main():
    began = time.monotonic()
    subprocess.run(CARGO + WORKSPACE + ["--no-run", "--quiet"], check=True)
    rows = [("compiling", time.monotonic() - began)]
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--no-deps", "--format-version", "1"]))
    logs = os.path.join(metadata["target_directory"], "tests", "logs")
    os.makedirs(logs, exist_ok=True)
    failed = []

    def finish(name, log, passed, seconds):
        rows.append((name, seconds))
        if not passed:
            failed.append(name)
            with open(log) as output:
                print(output.read())
        print(f"{'ok    ' if passed else 'FAILED'} {name}, {seconds:.0f} s", flush=True)

    selected = targets(metadata)
    logs = {name: os.path.join(logs, f"{name}.log".replace(" ", "-")) for name in selected}
    for name in ALONE:
        finish(*run(name, selected.pop(name), logs[name]))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, name, arguments, logs[name]) for name, arguments in selected.items()]
        for finished in as_completed(runs):
            finish(*finished.result())
    print(f"\nseconds of each target, with {THREADS} threads; {', '.join(ALONE)} alone, the others {AT_ONCE} at once:")
    for name, seconds in sorted(rows, key=lambda row: -row[1]):
        print(f"{seconds:8.1f}  {name}{'  FAILED' if name in failed else ''}")
    print(f"{time.monotonic() - began:8.1f}  all")
    if failed:
        sys.exit(f"tests/run: failed: {', '.join(failed)}")


try:
    main()
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode)
except KeyboardInterrupt:
    sys.exit(130)
