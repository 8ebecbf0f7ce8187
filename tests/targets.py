"""Runs every test target of the workspace, several at a time, and prints how long each took. Called by `tests/run`.

Most targets wait: for leases and time-outs to end, for servers to start, for processes that are to be killed. So several
run at once, each with more threads than there are processors. `RUST_TEST_THREADS` and `TEST_TARGETS_AT_ONCE` change both.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

CARGO = ["cargo", "test", "--workspace", "--all-features"]
# Those that take longest begin first, so that none of them is left over at the end.
LONGEST = ["macros", "transfers", "conformance", "chaos", "scenarios", "postgres_store", "charges", "transactions_postgres"]
THREADS = os.environ.setdefault("RUST_TEST_THREADS", "8")
AT_ONCE = int(os.environ.get("TEST_TARGETS_AT_ONCE", "3"))


def targets(metadata):
    """The names of the targets, each with the arguments that select it. All unit tests are one target, and so are all
    examples in documentation."""
    names = [target["name"] for package in metadata["packages"] for target in package["targets"] if target["kind"] == ["test"]]
    names.sort(key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    selected = {name: ["--test", name] for name in names}
    return {**selected, "documentation": ["--doc"], "unit tests": ["--lib", "--bins", "--examples"]}


def run(name, arguments, log):
    began = time.monotonic()
    with open(log, "w") as output:
        status = subprocess.run(CARGO + arguments, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    return name, log, status.returncode == 0, time.monotonic() - began


def main():
    began = time.monotonic()
    subprocess.run(CARGO + ["--no-run", "--quiet"], check=True)
    rows = [("compiling", time.monotonic() - began)]
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--no-deps", "--format-version", "1"]))
    logs = os.path.join(metadata["target_directory"], "tests", "logs")
    os.makedirs(logs, exist_ok=True)
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [
            pool.submit(run, name, arguments, os.path.join(logs, f"{name}.log".replace(" ", "-")))
            for name, arguments in targets(metadata).items()
        ]
        for finished in as_completed(runs):
            name, log, passed, seconds = finished.result()
            rows.append((name, seconds))
            if not passed:
                failed.append(name)
                with open(log) as output:
                    print(output.read())
            print(f"{'ok    ' if passed else 'FAILED'} {name}, {seconds:.0f} s", flush=True)
    print(f"\nseconds of each target, {AT_ONCE} at once with {THREADS} threads each:")
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
