"""The hub's protocol for one repository, served to this machine only: enough to fetch its files."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

REPOSITORY = "someone/tiny"
REVISION = "1" * 40


class Hub(ThreadingHTTPServer):
    """`cut` names a file that breaks off in its middle, once; `refused` one that can't be had."""

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.declared = files  # what its list of files says of them
        self.cut: str | None = None
        self.refused: str | None = None
        self.ranges: list[tuple[str, str]] = []  # file and Range header of each request for content

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, headers: dict, content: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            siblings = [
                {
                    "rfilename": name, "size": len(content),
                    "lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 100},
                }
                for name, content in self.server.declared.items()
            ]
            about = {"id": REPOSITORY, "sha": REVISION, "siblings": siblings}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(about).encode())
            return
        self.answer_file(path.rsplit("/", 1)[-1])

    def answer_file(self, name: str) -> None:
        content = self.server.files[name]
        headers = {"ETag": f'"{sha256(content)}"', "X-Repo-Commit": REVISION}
        if self.command == "GET":
            asked = self.headers.get("Range", "")
            self.server.ranges.append((name, asked))
            if name == self.server.refused:
                self.answer(403, {}, b"")
                return
            if name == self.server.cut:
                self.server.cut = None
                half = content[: len(content) // 2]
                self.answer(200, {**headers, "Content-Length": len(content)}, half)
                self.close_connection = True
                return
            if asked:
                start = int(asked.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.answer(206, headers, content[start:])
                return
        self.answer(200, headers, content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub(files) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
