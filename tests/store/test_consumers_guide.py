"""docs/consumers.md as it is typed: its snippets and its loader run here, against a stand-in for the search engine."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from tagfleet.store.exports import export_parquet
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import failed, tag, tagged

GUIDE = Path(__file__).parents[2] / "docs" / "consumers.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
LOADER = next(text for text in SNIPPETS if "_bulk" in text)


def run(code, *words, cwd):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True)


@pytest.mark.parametrize("snippet", [text for text in SNIPPETS if text != LOADER])
def test_the_snippets_run_as_typed(snippet, tmp_path):
    if "polars" in snippet and importlib.util.find_spec("polars") is None:
        pytest.skip("polars is not installed")
    predictions = Predictions(Storage(str(tmp_path / "root")))
    tag(predictions, ["a", "b", failed("c")], "r1", n_catalog=3)
    export_parquet(predictions, str(tmp_path / "export"), predictions.root.config)
    done = run(snippet, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


class Search(BaseHTTPRequestHandler):
    """As much of OpenSearch as the loader uses; a request that it would refuse is refused."""

    documents: ClassVar[dict] = {}
    n_requests = 0

    def log_message(self, *words):
        pass

    def answer(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        index, _, name = self.path.strip("/").split("/")
        found = self.documents.get((index, name))
        self.answer({"_source": found} if found else {"found": False}, 200 if found else 404)

    def do_PUT(self):
        index, _, name = self.path.strip("/").split("/")
        self.documents[index, name] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"result": "updated"})

    def do_POST(self):
        index, verb = self.path.strip("/").split("/")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if verb != "_bulk" or self.headers["Content-Type"] != "application/x-ndjson" or not data.endswith(b"\n"):
            self.answer({"error": "illegal"}, 400)
            return
        type(self).n_requests += 1
        lines = iter(data[:-1].split(b"\n"))
        items = []
        for line in lines:
            [(action, about)] = json.loads(line).items()
            if action == "index":
                self.documents[index, about["_id"]] = json.loads(next(lines))
            else:
                gone = self.documents.pop((index, about["_id"]), None)
                items.append({"delete": {"status": 200 if gone else 404}})
        self.answer({"errors": False, "items": items})


@pytest.fixture
def search():
    Search.documents, Search.n_requests = {}, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Search)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def indexed():
    return {name: row["genre"] for (index, name), row in Search.documents.items() if index == "tracks"}


def test_the_loader_keeps_an_index_at_the_latest_version(search, tmp_path):
    predictions = Predictions(Storage(str(tmp_path / "root")))

    def load():
        done = run(LOADER, predictions.root.root, search, "tracks", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return Search.documents["tracks-state", "version"]["version"]

    tag(predictions, ["a", "が", failed("c")], "r1", n_catalog=3)
    assert load() == 1
    assert indexed() == {"a": "rock", "が": "rock", "c": None}
    tag(predictions, [tagged("a", genre="jazz"), "d"], "r2", removed=["が"], n_catalog=3)
    assert load() == 2
    assert indexed() == {"a": "jazz", "c": None, "d": "rock"}
    n_requests = Search.n_requests
    assert load() == 2
    assert Search.n_requests == n_requests, "nothing had changed"


def test_a_search_engine_that_is_ill_is_not_taken_for_an_empty_one(search, tmp_path, monkeypatch):
    predictions = Predictions(Storage(str(tmp_path / "root")))
    tag(predictions, ["a"], "r1", n_catalog=1)
    monkeypatch.setattr(Search, "do_GET", lambda self: self.answer({"error": "busy"}, 503))
    done = run(LOADER, predictions.root.root, search, "tracks", cwd=tmp_path)
    assert done.returncode and "503" in done.stderr
    assert not Search.documents


def test_the_loader_has_some_twenty_lines():
    lines = [line for line in LOADER.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 20
