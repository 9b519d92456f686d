"""A small Hub in memory: it serves files of repositories by revision, and takes commits."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<call>\w+)/(?P<revision>[^/]+)")


class Hub:
    """Repositories as `{(repository, revision): {path: content}}`; revisions are branches.

    Attributes:
        files: the repositories.
        tokens: the token of each request.
        commits: message and pull request flag of each commit.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.commits: list[dict[str, Any]] = []
        self.endpoint = ""

    def commit_of(self, repo: str, revision: str) -> str:
        """Return the hash of the present content."""
        content = sorted(self.files[repo, revision].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()  # noqa: S324 - names a content

    def content(self, repo: str, revision: str) -> dict[str, bytes] | None:
        """Return the files of a branch or of a commit, None without one."""
        for (name, branch), files in self.files.items():
            if name == repo and revision in (branch, self.commit_of(name, branch)):
                return files
        return None


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Run a Hub on a free port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def do_HEAD(self) -> None:
        self._send_file(with_body=False)

    def do_GET(self) -> None:
        self._send_file(with_body=True)

    def do_POST(self) -> None:
        self._note_token()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            repo = json.loads(body)
            name = "/".join(filter(None, (repo.get("organization") or "me", repo["name"])))
            self.hub.files.setdefault((name, "main"), {})
            self._send_json({"url": f"{self.hub.endpoint}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif call := _API.fullmatch(self.path.partition("?")[0]):
            self._answer(call, body)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _answer(self, call: re.Match[str], body: bytes) -> None:
        place = call["repo"], call["revision"]
        if call["call"] == "branch":
            self.hub.files.setdefault(place, dict(self.hub.files[call["repo"], "main"]))
            self._send_json({})
        elif call["call"] == "preupload":
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self._send_json({"files": [{"path": name, **modes} for name in names]})
        else:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    self.hub.commits.append(value | {"create_pr": "create_pr=1" in self.path})
                elif line["key"] == "file":
                    self.hub.files[place][value["path"]] = base64.b64decode(value["content"])
            commit = self.hub.commit_of(*place)
            url = f"{self.hub.endpoint}/{call['repo']}/commit/{commit}"
            self._send_json({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

    def _send_file(self, *, with_body: bool) -> None:
        self._note_token()
        wanted = _FILE.fullmatch(self.path)
        files = None if wanted is None else self.hub.content(wanted["repo"], wanted["revision"])
        if wanted is None or files is None:
            known = wanted is not None and (wanted["repo"], "main") in self.hub.files
            code = "RevisionNotFound" if known else "RepoNotFound"
            return self._send(404, b"", {"X-Error-Code": code})
        branch = next(key for key, content in self.hub.files.items() if content is files)
        commit = {"X-Repo-Commit": self.hub.commit_of(*branch)}
        content = files.get(wanted["path"])
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", **commit})
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', **commit}
        return self._send(200, content, etag, with_body=with_body)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _note_token(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization"))
