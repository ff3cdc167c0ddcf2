"""The program that the tests run as a replica: a small HTTP server on the unix socket, and ways to misbehave."""
# ruff: noqa: PTH123, PTH208, PTH211, SIM115, PERF401

import json
import os
import signal
import socket
import sys
import threading
import time

SOCKET, FAILURE = sys.argv[1], sys.argv[2]
MODE, *REST = sys.argv[3:]
state = {"in_flight": 0, "stop": False}


def answer(connection):
    try:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            head, _, body = head.partition(b"\r\n\r\n")
            state["in_flight"] += 1
            try:
                lines = head.decode().split("\r\n")
                length = next(
                    (int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), 0
                )
                while len(body) < length:
                    body += connection.recv(65536)
                reply(connection, lines[0].split(" ")[0], body)
            finally:
                state["in_flight"] -= 1
    finally:
        connection.close()


def reply(connection, method, body):
    if method == "GET":
        text = b"Healthy"
    else:
        value = json.loads(body or b"null")
        if isinstance(value, dict) and "sleep" in value:
            time.sleep(value["sleep"])
        text = json.dumps({"replica": os.environ.get("NAME", ""), "echo": value}).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def on_term(*_):
    state["stop"] = True


def serve(term=on_term):
    signal.signal(signal.SIGTERM, term)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen(64)
    listener.settimeout(0.05)
    print("listening", flush=True)
    while not state["stop"]:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(None)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()
    listener.close()
    while state["in_flight"]:
        time.sleep(0.01)
    print("drained", flush=True)


def family():
    """Children, grandchildren and a daemon in a session of its own."""
    for _ in range(2):
        if not os.fork():
            if not os.fork():
                os.setsid()
            if not os.fork():
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            while True:
                time.sleep(100)
    serve()


def bomb():
    made = 0
    try:
        while made < 2000:
            if not os.fork():
                time.sleep(100)
                os._exit(0)
            made += 1
    except OSError:
        pass
    print("forked", made, flush=True)
    serve()


def newest(folder, most=100):
    """A log line is no place for all that has piled up on a machine."""
    return sorted(os.listdir(folder), key=lambda each: -os.lstat(f"{folder}/{each}").st_ctime)[:most]


def look():
    """Tell what a replica can see, and whom it can reach."""
    model, port, *writes = REST
    found = {"uid": os.getuid(), "env": dict(os.environ), "tmp": newest("/tmp")}
    found["status"] = open("/proc/self/status").read()
    for key, path in (("root", "/root"), ("run", "/run"), ("home", "/home"), ("etc", "/etc")):
        try:
            found[key] = os.listdir(path)
        except OSError as error:
            found[key] = type(error).__name__
    found["pids"] = len([name for name in os.listdir("/proc") if name.isdigit()])
    found["write"] = {}
    for path in (model + "/new", os.environ["TMPDIR"] + "/new", *writes):
        try:
            open(path, "w").close()
            found["write"][path] = "written"
        except OSError as error:
            found["write"][path] = type(error).__name__
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=2).close()
        found["network"] = True
    except OSError:
        found["network"] = False
    try:
        found["interfaces"] = sorted(os.listdir("/sys/class/net"))
    except OSError:
        found["interfaces"] = []
    import resource

    found["limits"] = {
        name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_CORE", "RLIMIT_NOFILE")
    }
    print("FOUND " + json.dumps(found), flush=True)


def eat():
    blocks = []
    for _ in range(int(REST[0])):
        blocks.append(bytearray(os.urandom(1 << 20)))
    print("ate", len(blocks), flush=True)
    time.sleep(100)


def fail():
    with open(FAILURE, "w") as file:
        file.write(REST[0])
    print("giving up", file=sys.stderr, flush=True)
    sys.exit(3)


def shout():
    for number in range(int(REST[0])):
        print(f"line {number} " + "x" * 1000)
    sys.stdout.flush()
    sys.exit(0)


def odd_text():
    os.write(1, b"a\0b\n" + b"y" * 100_000 + b"\n" + b"\xff\xfe\n" + b"unfinished")
    sys.exit(0)


def link():
    """A hostile one: its socket and its failure report are links to somebody else's things."""
    os.symlink(REST[0], SOCKET)
    os.symlink(REST[1], FAILURE)
    time.sleep(100)


def hungry_child():
    """Memory runs out in a child; the server itself lives on."""
    child = os.fork()
    if not child:
        blocks = []
        while True:
            blocks.append(bytearray(os.urandom(1 << 20)))
    os.waitpid(child, 0)
    print("child gone", flush=True)
    serve()


def tcp():
    """A server on a port, which tries to reach whom it is told to."""
    listener = socket.create_server(("0.0.0.0", int(REST[0])))
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=meet, args=(connection,), daemon=True).start()


def meet(connection):
    with connection, connection.makefile("rw") as stream:
        host, _, port = stream.readline().strip().rpartition(":")
        try:
            if host:
                socket.create_connection((host, int(port)), timeout=1).close()
            said = "reached"
        except OSError as error:
            said = type(error).__name__
        stream.write(said + "\n")
        stream.flush()


def both():
    """Many lines at once on both streams."""
    for number in range(int(REST[0])):
        os.write(1 + number % 2, b"line %d\n" % number)


def busy():
    end = time.monotonic() + float(REST[0])
    while time.monotonic() < end:
        pass
    print("CPU", time.process_time(), flush=True)


MODES = {
    "serve": serve,
    "stubborn": lambda: serve(term=signal.SIG_IGN),
    "late": lambda: (time.sleep(float(REST[0])), serve()),
    "exit": lambda: sys.exit(int(REST[0])),
    "signal": lambda: os.kill(os.getpid(), int(REST[0])),
}
MODES |= {"family": family, "bomb": bomb, "look": look, "eat": eat, "fail": fail, "shout": shout}
MODES |= {"hungry_child": hungry_child, "tcp": tcp, "both": both}
MODES |= {"odd": odd_text, "link": link, "busy": busy, "sleep": lambda: time.sleep(1000)}
MODES[MODE]()
