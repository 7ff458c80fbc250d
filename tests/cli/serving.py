"""A `kerf serve` of a test's own, driven over HTTP."""
import contextlib
import http.client
import json
import pathlib
import signal
import socket
import subprocess
import urllib.parse

import support


class Server:
    def __init__(self, folder, workers):
        self.folder = pathlib.Path(folder)
        self.log = open(self.folder / "serve.log", "w")
        self.process = subprocess.Popen(
            [support.KERF, "serve", "--data-dir", str(self.folder / "data"), "--listen", "127.0.0.1:0",
             "--workers", str(workers)], stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        self.url = urllib.parse.urlparse(json.loads(line)["http"])
        self.token = (self.folder / "data/token").read_text().strip()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.process.stdout.close()
        self.log.close()
        return code

    def request(self, method, path, body=None, token=..., headers=None):
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=150)
        with contextlib.closing(connection):
            sent = dict(headers or {})
            if token is ...:
                sent.setdefault("Authorization", f"Bearer {self.token}")
            elif token is not None:
                sent["Authorization"] = f"Bearer {token}"
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def json(self, method, path, body=None, **more):
        status, headers, text = self.request(method, path, body, **more)
        return status, json.loads(text)

    def raw(self, data, pieces=1):
        """Sends bytes as they are; everything that comes back until the server closes."""
        with socket.create_connection((self.url.hostname, self.url.port), timeout=30) as link:
            step = max(1, len(data) // pieces)
            with contextlib.suppress(ConnectionError):
                for i in range(0, len(data), step):
                    link.sendall(data[i:i + step])
            got = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                while chunk := link.recv(65536):
                    got += chunk
            return got


@contextlib.contextmanager
def serving(workers=0, folder=None):
    """Over `folder`/data where that is there already, else over an empty one."""
    with contextlib.nullcontext(folder) if folder else support.scratch() as folder:
        server = Server(folder, workers)
        try:
            yield server
        finally:
            code = server.stop()
        assert code == 0, f"kerf serve ended with {code}"
