"""Requests a second of the scoring server against a hand-written FastAPI handler, same scikit-learn model, interleaved.

`python -m bench.runtime` (row `runtime` of `python -m bench`): needs wrk and takes less than 30 seconds.
Both sides listen on loopback TCP, because wrk cannot speak to unix sockets. Ratios are what counts: client and servers
share the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1
ROUNDS = 3
CONNECTIONS = (1, 16)

TRAIN = """
import sys, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
X, y = load_diabetes(return_X_y=True, as_frame=True)
model = LinearRegression().fit(X, y)
mlflow.sklearn.save_model(model, sys.argv[1], signature=infer_signature(X, model.predict(X)), pip_requirements=[],
                          serialization_format="cloudpickle")
"""

FASTAPI = """
import sys, numpy, pickle, pandas, uvicorn, fastapi, mlflow.sklearn, warnings
from pydantic import BaseModel
model = mlflow.sklearn.load_model(sys.argv[1])
del model.feature_names_in_  # the kindest case: no warning, no check of names
app = fastapi.FastAPI()
class Frame(BaseModel):
    columns: list[str]
    data: list[list[float]]
class Body(BaseModel):
    input_data: Frame
@app.get("/")
def health(): return "ok"
@app.post("/score")
def score(body: Body):
    return model.predict(numpy.array(body.input_data.data)).tolist()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
"""

SCRIPT = """
import os, json, numpy, mlflow.sklearn
def init():
    global model
    model = mlflow.sklearn.load_model(os.environ["AZUREML_MODEL_DIR"])
    del model.feature_names_in_
def run(data):
    return model.predict(numpy.array(json.loads(data)["input_data"]["data"])).tolist()
"""

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"input_data":{"columns":["age","sex","bmi","bp","s1","s2","s3","s4","s5","s6"],' ..
  '"data":[[0.038,0.05,0.0616,0.0218,-0.044,-0.034,-0.043,-0.0025,0.0199,-0.0176]]}}'
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(argv: list[str], port: int, **env: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(argv, env={**os.environ, "OMP_NUM_THREADS": "1", **env}, stdout=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).read()
        except OSError:
            if child.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return child
    child.kill()
    raise SystemExit(f"{argv} did not start")


def load(port: int, connections: int, lua: Path) -> tuple[float, str]:
    url = f"http://127.0.0.1:{port}/score"
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", str(lua), url]
    text = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), re.search(r"50%\s+(\S+)", text)[1]


def main() -> None:
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "post.lua").write_text(LUA)
        (home / "score.py").write_text(SCRIPT)
        model = str(home / "model")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([sys.executable, "-c", TRAIN, model], check=True, timeout=120, **quiet)
        run(home, model)


def run(home: Path, model: str) -> None:
    boot = [sys.executable, str(ROOT / "runtime" / "boot.py")]
    ports = {"fastapi": free_port(), "portway mlflow": free_port(), "portway script": free_port()}
    common = {"PORTWAY_SOCKET_DIR": str(home)}
    children = []
    try:
        children.append(start([sys.executable, "-c", FASTAPI, model, str(ports["fastapi"])], ports["fastapi"]))
        bind = f"127.0.0.1:{ports['portway mlflow']}"
        children.append(start(boot, ports["portway mlflow"], PORTWAY_BIND=bind, PORTWAY_MLFLOW_MODEL=model, **common))
        bind = f"127.0.0.1:{ports['portway script']}"
        script = {"AML_APP_ROOT": str(home), "AZUREML_ENTRY_SCRIPT": "score.py", "AZUREML_MODEL_DIR": model}
        children.append(start(boot, ports["portway script"], PORTWAY_BIND=bind, **script, **common))
        for connections in CONNECTIONS:
            report(connections, ports, home / "post.lua")
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


def report(connections: int, ports: dict[str, int], lua: Path) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ports}
    middle: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name, port in ports.items():
            rate, middle[name] = load(port, connections, lua)
            rates[name].append(rate)
    base = statistics.median(rates["fastapi"])
    for name, found in rates.items():
        rate = statistics.median(found)
        ratio = f"{rate / base:5.2f} x fastapi"
        print(f"{connections:3d} connections  {name:15s} {rate:8.0f}/s  p50 {middle[name]:>8s}  {ratio}")


if __name__ == "__main__":
    main()
