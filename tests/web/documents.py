"""A server that gives the dashboard's own files, and documents that a test wrote for it: for what a
real study passes through too fast to be looked at, or comes to by chance."""
import contextlib
import http.server
import json
import threading
import urllib.parse

import support

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urllib.parse.urlsplit(self.path)
        file = support.ROOT / "web" / (path.path.strip("/") or "index.html")
        if path.path in self.server.documents:
            document = self.server.documents[path.path]
            query = dict(urllib.parse.parse_qsl(path.query))
            self.server.asked.append(self.path)
            self.answer("application/json", json.dumps(self.page_of(document, query)).encode())
        elif file.suffix in TYPES and file.is_file():
            self.answer(TYPES[file.suffix], file.read_bytes())
        else:
            self.answer("application/problem+json", b'{"detail": "no such resource"}', 404)

    def page_of(self, document, query):
        """A page of a list, as the real server cuts it."""
        if "trials" not in document:
            return document
        first, limit = int(query.get("cursor", 0)), int(query["limit"])
        rows = document["trials"][first:first + limit]
        return {"trials": rows, "next_cursor": str(first + limit) if len(rows) == limit else None}

    def answer(self, kind, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind + "; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def documents(study, trials, front, workers=()):
    """The server's address; `server.documents` may be changed while it runs."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    path = f"/v1/studies/{study['id']}"
    server.documents = {"/v1/studies": {"studies": [study]}, "/v1/workers": {"workers": list(workers)}, path: study,
                        path + "/trials": {"trials": trials}, path + "/front": front}
    server.asked = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
