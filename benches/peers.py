#!/usr/bin/env python3
"""What a request costs, beside nginx and HAProxy: one interleaved run on loopback.

usage: benches/peers.py [--rounds 5] [--seconds 3] [--backstop target/release/backstop] [--only WORD]

Needs nginx, haproxy, wrk, h2load and hey (Debian's packages) and the release build; `make bench` installs what is missing. Each proxy
runs with two workers as its own documentation recommends, and writes an access log. Ours has what it has in production: routes,
retries, metrics, a log of JSON lines. Printed are medians over the rounds: CPU time of the proxy's own processes for each request
(from /proc), the ratio to nginx, requests per second, latency at p50 and p99; then latency at p50, p99 and p99.9 when requests come
at 70 % of the rate that the slowest of the three could take, and that what asks could ask for; resident memory idle, at the end, and
with 5,000 idle connections. Starts its own processes, ends them by their ids, listens on loopback only.
"""
import argparse
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cache_hits import Proxy, cpu, free_port, log_sink, place, rss  # noqa: E402

CONNECTIONS = 64
KB, BIG = 1024, 100 * 1024
# So many of 100 KB that they have no place in a memory of 2 MiB, which has room for what is known of each, with its open file.
FILES = 200
IDLE = 5000
ECHO = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "echo.py")]
# Of the rate that the slowest can take.
SHARE = 0.7
# As often as what asks can.
ANY = 0


class Ports:
    """Where each proxy listens: in clear text, by TLS with and without HTTP/2, and where its answers are in files, if anywhere."""

    def __init__(self):
        self.plain, self.tls = free_port(), free_port()
        self.files = None
        # Where WebSocket messages are answered.
        self.echo = None


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def origin(d):
    """nginx itself, which answers faster than any of the proxies can ask."""
    port = free_port()
    os.mkdir(os.path.join(d, "www"))
    for name, size in [("1k", KB), ("100k", BIG)] + [(f"100k.{n}", BIG) for n in range(FILES)]:
        write(os.path.join(d, "www", name), "x" * size)
    os.chmod(d, 0o755)
    conf = write(
        os.path.join(d, "origin.conf"),
        f"user root; daemon off; worker_processes 1; pid {d}/o.pid; error_log {d}/o.err;\nevents {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; sendfile on; open_file_cache max=100; keepalive_requests 100000000; client_max_body_size 10m;\n"
        f" server {{ listen 127.0.0.1:{port}; root {d}/www; add_header Cache-Control max-age=3600;\n"
        # Content is read to its end before there is an answer.
        f"  location /post {{ client_body_buffer_size 2m; proxy_pass http://127.0.0.1:{port}/taken; proxy_set_body ''; proxy_method GET; }}\n"
        "  location /taken { return 200; } } }\n",
    )
    return Proxy("origin", ["/usr/sbin/nginx", "-c", conf, "-p", d], port)


def backstop(program, o, d, ports):
    conf = write(
        os.path.join(d, "backstop.yaml"),
        f"listeners:\n  - {{ address: 127.0.0.1:{ports.plain} }}\n"
        f"  - {{ address: 127.0.0.1:{ports.tls}, tls: {{ certificates: [{{ cert: {d}/../site.pem, key: {d}/../site.key }}] }} }}\n"
        f"workers: 2\ncache: {{ memory: 64MiB }}\naccess_log: {{ path: {d}/access.log }}\nadmin: {{ address: 127.0.0.1:{free_port()} }}\n---\n"
        f"upstreams: {{ pool: {{ backends: [127.0.0.1:{o}] }}, echo: {{ backends: [127.0.0.1:{ports.echo}] }} }}\n"
        "routes:\n  - { match: { path: /cached }, upstream: pool, strip_prefix: /cached, cache: { ttl: 1h } }\n"
        "  - { match: { path: /echo }, upstream: echo }\n"
        "  - { upstream: pool, retry: { tries: 3 } }\n",
    )
    return Proxy("backstop", [program, "-c", conf], ports.plain)


def backstop_with_files(program, o, d, port):
    """Another one, whose answers are in files."""
    conf = write(
        os.path.join(d, "files.yaml"),
        f"listeners: [{{ address: 127.0.0.1:{port} }}]\nworkers: 2\ncache: {{ memory: 2MiB, path: {d}/files, max_size: 1GiB, min_free: 1MiB }}\n"
        f"access_log: {{ path: {d}/files.log }}\nadmin: {{ address: 127.0.0.1:{free_port()} }}\n---\n"
        f"upstreams: {{ pool: {{ backends: [127.0.0.1:{o}] }} }}\n"
        "routes:\n  - { match: { path: /cached }, upstream: pool, strip_prefix: /cached, cache: { ttl: 1h } }\n",
    )
    return Proxy("backstop files", [program, "-c", conf], port)


def nginx(o, d, ports):
    conf = write(
        os.path.join(d, "nginx.conf"),
        f"user root; daemon off; worker_processes 2; pid {d}/n.pid; error_log {d}/n.err;\nevents {{ worker_connections 4096; }}\n"
        f"http {{ access_log {d}/access.log combined buffer=64k flush=1s; sendfile on; keepalive_requests 100000000;\n"
        f" open_file_cache max=20000; proxy_cache_path {d}/cache levels=1:2 keys_zone=z:64m max_size=4g inactive=1h use_temp_path=off;\n"
        f" ssl_certificate {d}/../site.pem; ssl_certificate_key {d}/../site.key; ssl_protocols TLSv1.3; ssl_session_cache shared:s:10m;\n"
        f" client_max_body_size 10m;\n upstream o {{ server 127.0.0.1:{o}; keepalive 64; keepalive_requests 100000000; }}\n"
        f" server {{ listen 127.0.0.1:{ports.plain} reuseport; listen 127.0.0.1:{ports.tls} ssl http2 reuseport;\n"
        "  proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
        "  location / { proxy_pass http://o; }\n"
        f"  location /echo {{ proxy_pass http://127.0.0.1:{ports.echo}; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}\n"
        "  location /cached/ { proxy_pass http://o/; proxy_cache z; proxy_cache_valid 200 1h; proxy_cache_lock on; } } }\n",
    )
    return Proxy("nginx", ["/usr/sbin/nginx", "-c", conf, "-p", d], ports.plain)


def haproxy(o, d, ports):
    pem = open(f"{d}/../site.pem").read() + open(f"{d}/../site.key").read()
    both = write(os.path.join(d, "both.pem"), pem)
    conf = write(
        os.path.join(d, "haproxy.cfg"),
        f"global\n nbthread 2\n maxconn 8000\n log 127.0.0.1:{log_sink()} local0\n ssl-default-bind-options ssl-min-ver TLSv1.3\n"
        "defaults\n mode http\n log global\n option httplog\n option forwardfor\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n http-reuse always\n"
        "cache c\n total-max-size 64\n max-object-size 1000000\n max-age 3600\n"
        f"frontend f\n bind 127.0.0.1:{ports.plain}\n bind 127.0.0.1:{ports.tls} ssl crt {both} alpn h2,http/1.1\n"
        " use_backend cached if { path_beg /cached/ }\n use_backend echo if { path_beg /echo }\n default_backend b\n"
        f"backend echo\n timeout tunnel 1h\n server s 127.0.0.1:{ports.echo}\n"
        f"backend b\n server s 127.0.0.1:{o} pool-max-conn 256\n"
        f"backend cached\n http-request cache-use c\n http-response cache-store c\n http-request replace-path /cached(/.*) \\1\n server s 127.0.0.1:{o}\n",
    )
    return Proxy("haproxy", ["/usr/sbin/haproxy", "-f", conf, "-db"], ports.plain)


UNIT = {"us": 1.0, "ms": 1000.0, "s": 1e6}


def micros(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * UNIT[unit]


def wrk(url, seconds, extra, connections=CONNECTIONS):
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *extra, url],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    ).stdout
    found = re.search(r"(\d+) requests in", out)
    if found is None or int(found.group(1)) == 0:
        raise SystemExit(f"no request of {url} was answered:\n{out}")
    done = int(found.group(1))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = int(bad.group(1)) if bad else 0
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors += sum(map(int, broken.groups())) if broken else 0
    latency = [micros(re.search(rf"\s{q}%\s+(\S+)", out).group(1)) for q in (50, 99)]
    return done, errors, latency


def h2load(url, seconds, extra):
    out = subprocess.run(
        ["h2load", "-t1", "-c16", "-m4", f"-D{seconds}", *extra, url],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    ).stdout
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    mean = re.search(r"time for request:\s+\S+\s+(\S+)\s+(\S+)", out)
    # h2load gives no percentiles: the greatest and the mean.
    return int(done.group(1)), int(done.group(2)) + int(done.group(3)), [micros(mean.group(2)), micros(mean.group(1))]


def websocket(url, seconds, _):
    port, path = re.fullmatch(r"http://127.0.0.1:(\d+)(/.*)", url).groups()
    out = subprocess.run([*ECHO, "load", port, path, str(seconds)], capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    done, wrong, half, most = out.split()
    return int(done), int(wrong), [float(half), float(most)]


CASES = [
    ("1 KB proxied", wrk, "plain", "/1k", []),
    ("100 KB proxied", wrk, "plain", "/100k", []),
    ("1 KB cached", wrk, "plain", "/cached/1k", []),
    ("100 KB cached", wrk, "plain", "/cached/100k", []),
    ("new connection", wrk, "plain", "/1k", ["-H", "Connection: close"]),
    ("100 KB from files", wrk, "files", "/cached/100k.", ["-s", "SPREAD"]),
    ("1 KB POST", wrk, "plain", "/post", ["-s", "POST"]),
    ("1 MiB POST", wrk, "plain", "/post", ["-s", "POST1M"]),
    ("WebSocket message", websocket, "plain", "/echo", []),
    ("TLS 1.3, 1 KB", wrk, "tls", "/1k", []),
    ("TLS 1.3, new connection", wrk, "tls", "/1k", ["-H", "Connection: close"]),
    ("HTTP/2 over TLS, 1 KB", h2load, "tls", "/1k", []),
]


# What wrk does in those cases.
SCRIPTS = {
    "POST": 'wrk.method = "POST"; wrk.body = string.rep("x", 1024)\n',
    "POST1M": 'wrk.method = "POST"; wrk.body = string.rep("x", 1024 * 1024)\n',
    "SPREAD": f'n = 0\nfunction request() n = (n + 7) % {FILES}; return wrk.format("GET", wrk.path .. n) end\n',
}


def written(root, scripts):
    return {name: write(f"{root}/{name}.lua", text) for name, text in scripts.items()}


def certificate(root):
    """One that nobody signed, for all proxies."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{root}/site.key", "-out", f"{root}/site.pem"],
        check=True,
        capture_output=True,
    )


def percentile(sorted_times, share):
    return sorted_times[min(len(sorted_times) - 1, int(len(sorted_times) * share))]


def kept(rate, seconds, extra, root):
    """Latencies in microseconds, and how many answers were none, when so many requests come in a second on connections that stay. One
    that has no answer yet gets its next request later: what stands still for long looks better than it is."""
    times = os.path.join(root, "times")
    clients = 16 if "-m4" in extra else CONNECTIONS
    subprocess.run(
        ["h2load", "-t1", f"-c{clients}", f"-D{seconds}", f"--rps={rate / clients:.2f}", f"--log-file={times}", *extra],
        capture_output=True,
        timeout=seconds + 60,
        check=True,
    )
    with open(times) as f:
        rows = [line.split("\t") for line in f]
    os.remove(times)
    return [int(row[2]) for row in rows if row[1] == "200"], sum(row[1] != "200" for row in rows)


def fresh(rate, seconds, extra, _):
    """The same with a connection for each, to a tenth of a millisecond. What failed is not among its lines: it shows in how many
    there are."""
    # Of an address, it would ask for the certificate of a name with a port.
    out = subprocess.run(
        ["hey", "-z", f"{seconds}s", "-c", str(CONNECTIONS), "-q", str(rate / CONNECTIONS), "-disable-keepalive", "-host", "localhost", "-o", "csv", *extra],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    ).stdout
    rows = [line.split(",") for line in out.splitlines()[1:]]
    return [float(row[0]) * 1e6 for row in rows if row[6] == "200"], sum(row[6] != "200" for row in rows)


def paced(load, extra):
    """What asks by the clock as a case does, and what makes the words for it."""
    if "Connection: close" in extra:
        return fresh, lambda url, root: [url]
    if "SPREAD" in extra:

        def spread(url, root):
            return ["--h1", "-i", write(os.path.join(root, "paths"), "".join(f"{url}{n}\n" for n in range(FILES)))]

        return kept, spread
    if "-s" in extra:
        size = KB if "POST" in extra else KB * KB

        def content(url, root):
            return ["--h1", "-d", write(os.path.join(root, "content"), "x" * size), url]

        return kept, content
    return kept, lambda url, root: ["-m4" if load is h2load else "--h1", url]


def at_rate(case, url, rate, seconds, root):
    """How many answers came in a second; latencies at p50, p99 and p99.9."""
    _, load, _, _, extra = case
    how, words = paced(load, extra)
    found, bad = how(rate, seconds, words(url, root), root)
    if not found or bad:
        raise SystemExit(f"{url} at {rate:.0f} a second: {bad} of {bad + len(found)} answers are none")
    found.sort()
    return [len(found) / seconds, *(percentile(found, share) for share in (0.5, 0.99, 0.999))]


def steady(cases, proxies, ports, results, root, args):
    """Latency at a rate that all can take."""
    print(f"\n| at {SHARE:.0%} of the slowest | | asked per s | answered | p50 µs | p99 µs | p99.9 µs | p99 / nginx |\n|---|---|---|---|---|---|---|---|")
    for case in cases:
        name, load, kind, path, extra = case
        if load is websocket:
            continue
        those = [proxy for proxy in proxies if (name, proxy) in results]
        urls = {proxy: f"{'https' if kind == 'tls' else 'http'}://127.0.0.1:{getattr(ports[proxy], kind)}{path}" for proxy in those}
        limits = [statistics.median(row[1] for row in results[(name, proxy)]) for proxy in those]
        if paced(load, extra)[0] is fresh:
            # It asks less often than wrk: at more than it can ask for, all that it waits for is itself.
            limits += [at_rate(case, urls[proxy], ANY, args.seconds, root)[0] for proxy in those]
        rate = SHARE * min(limits)
        found = {proxy: [] for proxy in those}
        for turn in range(args.rounds):
            for proxy in those if turn % 2 == 0 else reversed(those):
                found[proxy].append(at_rate(case, urls[proxy], rate, args.seconds, root))
        medians = {proxy: [statistics.median(column) for column in zip(*rows)] for proxy, rows in found.items()}
        for proxy, (came, half, most, nearly_all) in medians.items():
            print(f"| {name} | {proxy} | {rate:.0f} | {came:.0f} | {half:.0f} | {most:.0f} | {nearly_all:.0f} | {most / medians['nginx'][2]:.2f} |")
    print()


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--backstop", default="target/release/backstop")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    program = os.path.abspath(args.backstop)
    root = tempfile.mkdtemp(prefix="peers.")
    os.chmod(root, 0o755)
    started = []
    certificate(root)
    scripts = written(root, SCRIPTS)
    try:
        behind = origin(place(root, "origin"))
        started.append(behind)
        proxies, ports = {}, {}
        echo = free_port()
        started.append(Proxy("echo", [*ECHO, "serve", str(echo)], echo))
        for name, make in (("backstop", None), ("nginx", nginx), ("haproxy", haproxy)):
            ports[name] = Ports()
            ports[name].echo = echo
            d = place(root, name)
            proxy = backstop(program, behind.port, d, ports[name]) if make is None else make(behind.port, d, ports[name])
            proxies[name] = proxy
            started.append(proxy)
        # nginx keeps stored answers in files always, HAProxy never.
        ports["nginx"].files = ports["nginx"].plain
        ports["backstop"].files = free_port()
        files = backstop_with_files(program, behind.port, os.path.join(root, "backstop"), ports["backstop"].files)
        started.append(files)
        idle = {name: rss(proxy.process.pid) for name, proxy in proxies.items()}
        results = {}
        cases = [case for case in CASES if args.only in case[0]]
        for _ in range(args.rounds):
            for case, load, kind, path, extra in cases:
                extra = [scripts.get(word, word) for word in extra]
                for name, proxy in proxies.items():
                    port = getattr(ports[name], kind)
                    if port is None:
                        continue
                    proxy = files if port == files.port else proxy
                    url = f"{'https' if kind == 'tls' else 'http'}://127.0.0.1:{port}{path}"
                    before, began = cpu(proxy.process.pid), time.time()
                    done, errors, latency = load(url, args.seconds, extra)
                    took, used = time.time() - began, cpu(proxy.process.pid) - before
                    if done == 0:
                        raise SystemExit(f"{name}: no request of {case!r} was answered")
                    results.setdefault((case, name), []).append((used / done * 1e6, done / took, *latency, errors))
        versions = [
            subprocess.run([program, "-v"], capture_output=True, text=True),
            subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True),
            subprocess.run(["/usr/sbin/haproxy", "-v"], capture_output=True, text=True),
        ]
        print("; ".join((v.stdout or v.stderr).strip().splitlines()[0] for v in versions))
        print("\n| | | CPU µs | / nginx | per s | p50 µs | p99 µs | errors | CPU µs, all rounds |\n|---|---|---|---|---|---|---|---|---|")
        for case, *_ in cases:
            base = statistics.median(row[0] for row in results[(case, "nginx")])
            for name in proxies:
                rows = results.get((case, name))
                if rows is None:
                    continue
                med = [statistics.median(column) for column in zip(*rows)]
                spread = " ".join(f"{row[0]:.1f}" for row in rows)
                print(
                    f"| {case} | {name} | {med[0]:.1f} | {med[0] / base:.2f} | {med[1]:.0f} | {med[2]:.0f} | {med[3]:.0f} | {sum(row[4] for row in rows)} | {spread} |"
                )
        steady(cases, proxies, ports, results, root, args)
        for name, proxy in proxies.items():
            ending = rss(proxy.process.pid)
            # Kept open, with nothing to do.
            connections = []
            for _ in range(IDLE):
                s = socket.create_connection(("127.0.0.1", ports[name].plain))
                s.sendall(b"GET /cached/1k HTTP/1.1\r\nHost: a\r\n\r\n")
                s.recv(65536)
                connections.append(s)
            held = rss(proxy.process.pid)
            sizes = ", ".join(f"{size / 2**20:.0f} MiB {when}" for size, when in (
                (idle[name], "idle"), (ending, "at the end"), (held, f"with {IDLE} idle connections")))
            print(f"{name}: {sizes}, {(held - ending) / IDLE / 1024:.1f} KiB for each")
            for s in connections:
                s.close()
    finally:
        for p in reversed(started):
            p.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
