#!/usr/bin/env python3
"""What it costs to see: CPU for each request with the log of JSON lines and metrics that are asked for every second, beside a process
with neither, in one interleaved run on loopback. And whether URLs make series.

usage: benches/observing.py [--rounds 5] [--seconds 3] [--backstop target/release/backstop]
       benches/observing.py --urls 10000000

The first prints medians over the rounds for 1 KB proxied and 1 KB from memory, and the ratio. The second asks for so many different
URLs at as many different hosts, and fails if the metrics have another series afterwards. Needs nginx and wrk (Debian's packages) and
the release build. Starts its own processes, ends them by their ids.
"""
import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cache_hits import Proxy, cpu, free_port, rss  # noqa: E402
from peers import origin, wrk, write  # noqa: E402

# Counts in the path and in `Host`, in each thread from a place of its own.
DIFFERENT = """
local threads = 0
function setup(thread) thread:set("place", threads) threads = threads + 1 end
function init(args) n = place * 1000000000 end
function request()
  n = n + 1
  return wrk.format("GET", "/" .. n, { Host = "h" .. n .. ".example" })
end
"""


def backstop(program, o, d, seen):
    os.mkdir(d)
    port, admin = free_port(), free_port()
    see = f"access_log: {{ path: {d}/access.log }}\nadmin: {{ address: 127.0.0.1:{admin} }}\n" if seen else "access_log: { path: off }\n"
    conf = write(
        os.path.join(d, "backstop.yaml"),
        f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\ncache: {{ memory: 64MiB }}\nclients: {{ keepalive_requests: 100000000 }}\n{see}---\n"
        f"upstreams: {{ pool: {{ backends: [127.0.0.1:{o}] }} }}\n"
        "routes:\n  - { match: { path: /cached }, upstream: pool, strip_prefix: /cached, cache: { ttl: 1h } }\n"
        "  - { match: { path: /1k }, upstream: pool, retry: { tries: 3 } }\n  - { name: rest, respond: { status: 200, body: here } }\n",
    )
    return Proxy("seen" if seen else "unseen", [program, "-c", conf], port), admin


def metrics(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        return answer.read().decode()


def cost(program, rounds, seconds, d, o):
    proxies = {seen: backstop(program, o, os.path.join(d, str(seen)), seen) for seen in (True, False)}
    over = threading.Event()

    def scrape():
        while not over.wait(1):
            metrics(proxies[True][1])

    reader = threading.Thread(target=scrape)
    reader.start()
    spent = {}
    try:
        for path in ("/1k", "/cached/1k"):
            for proxy, _ in proxies.values():
                wrk(f"http://127.0.0.1:{proxy.port}{path}", 1, [])
        for turn in range(rounds):
            for path in ("/1k", "/cached/1k"):
                for seen in (True, False) if turn % 2 == 0 else (False, True):
                    proxy, _ = proxies[seen]
                    before = cpu(proxy.process.pid)
                    done, errors, _ = wrk(f"http://127.0.0.1:{proxy.port}{path}", seconds, [])
                    assert errors == 0, errors
                    spent.setdefault((path, seen), []).append((cpu(proxy.process.pid) - before) / done * 1e6)
    finally:
        over.set()
        reader.join()
        for proxy, _ in proxies.values():
            proxy.stop()
    for path in ("/1k", "/cached/1k"):
        seen, unseen = (statistics.median(spent[path, which]) for which in (True, False))
        print(f"{path:11} {seen:6.1f} us with log and metrics, {unseen:6.1f} us without: {seen / unseen:.3f}")
    ratios = [a / b for a, b in zip(spent["/1k", True], spent["/1k", False])]
    print("each round of /1k:", ", ".join(f"{ratio:.3f}" for ratio in ratios))


def urls(program, wanted, d, o):
    proxy, admin = backstop(program, o, os.path.join(d, "seen"), True)
    script = write(os.path.join(d, "different.lua"), DIFFERENT)
    # The log is not what is looked at here, and would take gigabytes.
    log = os.path.join(d, "seen", "access.log")

    def series():
        return {line.rsplit(" ", 1)[0] for line in metrics(admin).splitlines() if not line.startswith("#")}

    try:
        wrk(f"http://127.0.0.1:{proxy.port}/", 1, ["-s", script])
        time.sleep(1)
        before, memory, done = series(), rss(proxy.process.pid), 0
        while done < wanted:
            counted, errors, _ = wrk(f"http://127.0.0.1:{proxy.port}/", 60, ["-s", begin(script, done + 10_000)])
            assert errors == 0, errors
            done += counted
            os.truncate(log, 0)
            print(f"{done} requests")
        time.sleep(1)
        after = series()
    finally:
        proxy.stop()
    print(f"{len(before)} series before, {len(after)} after; memory {memory >> 20} MiB before")
    if before != after:
        print(*sorted(before ^ after), sep="\n")
        return 1
    return 0


def begin(script, at):
    """The script, which goes on where the one before has ended."""
    with open(script) as f:
        text = f.read()
    return write(script.replace(".lua", f".{at}.lua"), text.replace("n = place * 1000000000", f"n = place * 1000000000 + {at}"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--urls", type=int)
    parser.add_argument("--backstop", default="target/release/backstop")
    args = parser.parse_args()
    program = os.path.abspath(args.backstop)
    with tempfile.TemporaryDirectory(prefix="observing.") as d:
        behind = origin(d)
        try:
            if args.urls:
                return urls(program, args.urls, d, behind.port)
            cost(program, args.rounds, args.seconds, d, behind.port)
        finally:
            behind.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
