"""kerf serve from outside: uploads, a study over HTTP, its front, the exported model, and what is
refused."""
import http.client
import json
import os
import unittest

import numpy as np
import onnx

import support
from serving import Server, serving

SPACE = {"default": {"weight_bits": [4, 8, 32], "activation_bits": [8, 32]}}


class Serve(unittest.TestCase):
    def upload_study(self, server, trials):
        case = support.example_cases()[0]
        ids = {}
        for split in ("calibration", "evaluation", "test"):
            status, answer = server.json("POST", "/v1/datasets", case.file(split).read_bytes())
            self.assertEqual(status, 201)
            ids[split] = answer["id"]
        status, answer = server.json("POST", "/v1/models", case.model.read_bytes())
        self.assertEqual(status, 201)
        return {"name": "over <b>HTTP</b>", "model": answer["id"], "data": ids, "space": SPACE,
                "search": {"sampler": "random", "seed": 2}, "budget": {"trials": trials}}

    def test_a_study_over_http(self):
        with serving(workers=1) as server:
            study = self.upload_study(server, 5)
            key = {"Idempotency-Key": "once"}
            status, headers, body = server.request("POST", "/v1/studies", study, headers=key)
            self.assertEqual(status, 201, body)
            made = json.loads(body)
            path = f"/v1/studies/{made['id']}"
            self.assertEqual(headers["Location"], path)
            self.assertEqual(server.json("POST", "/v1/studies", study, headers=key)[1]["id"], made["id"])
            self.assertEqual(server.json("POST", "/v1/studies", {**study, "name": "other"}, headers=key)[0], 422)

            # The log as it grows, until the study's end stands in it.
            link = http.client.HTTPConnection(server.url.hostname, server.url.port, timeout=120)
            link.request("GET", path + "/events", headers={"Authorization": f"Bearer {server.token}"})
            stream = link.getresponse()
            self.assertEqual(stream.getheader("Content-Type"), "text/event-stream")
            ended, last_id = False, None
            while not ended:
                line = stream.fp.readline().decode().strip()
                if line.startswith("id: "):
                    last_id = int(line[4:])
                if line.startswith("data: ") and '"complete"' in line:
                    status_now = server.json("GET", path)[1]
                    ended = status_now["state"] == "complete"
            link.close()
            self.assertGreater(last_id, 1)

            trials = server.json("GET", path + "/trials?limit=3")[1]
            self.assertEqual([t["number"] for t in trials["trials"]], [0, 1, 2])
            rest = server.json("GET", path + f"/trials?cursor={trials['next_cursor']}")[1]
            self.assertEqual([t["number"] for t in rest["trials"]], [3, 4])
            front = server.json("GET", path + "/front")[1]
            self.assertGreaterEqual(len(front["front"]), 1)
            self.assertEqual(server.json("GET", "/v1/studies")[1]["studies"][0]["name"], "over <b>HTTP</b>")

            # A front member's model runs elsewhere with the accuracy that was measured.
            member = front["front"][-1]
            status, headers, body = server.request("GET", f"{path}/trials/{member['trial']}/model")
            self.assertEqual(status, 200, body[:200])
            model = server.folder / "model.onnx"
            model.write_bytes(body)
            case = support.example_cases()[0]
            outputs = support.onnxruntime_outputs(model, case.inputs("evaluation"))
            self.assertAlmostEqual(support.accuracy(outputs, case.labels("evaluation")),
                                   member["metrics"]["accuracy"], delta=0.005)

            # And says where it comes from.
            said = {entry.key: entry.value for entry in onnx.load_from_string(body).metadata_props}
            self.assertEqual((said["kerf.study"], said["kerf.trial"]), (made["id"], str(member["trial"])))
            self.assertEqual(json.loads(said["kerf.plan"]), member["candidate"])
            self.assertEqual(json.loads(said["kerf.measured"])["accuracy"], member["metrics"]["accuracy"])
            self.assertIn("cpu_model", json.loads(said["kerf.hardware"]))
            for file in ("kerf.source", "kerf.calibration"):
                self.assertRegex(said[file], "^sha256:[0-9a-f]{64}$")
            self.assertIn("kerf.version", said)

            # The client does the same.
            env = {**os.environ, "KERF_TOKEN": server.token}
            where = ["--server", server.url.geturl()]
            listed = support.kerf_json("list", *where, env=env)
            self.assertEqual(listed["studies"][0]["id"], made["id"])
            said = support.kerf("status", made["id"], *where, env=env).stdout
            self.assertRegex(said, r"(?s)^" + made["id"] + r"  over <b>HTTP</b>\nstate        complete \(budget\.trials\)\ntrials       5 of 5, 0 failed\n")
            refused = support.kerf("resume", made["id"], *where, env=env, check=False)
            self.assertEqual((refused.returncode, refused.stderr),
                             (2, f"kerf resume: study {made['id']} is complete; expected one that is paused\n"))
            support.kerf("download", made["id"], member["trial"], "-o", server.folder / "again.onnx", *where, env=env)
            self.assertEqual((server.folder / "again.onnx").read_bytes(), body)

            self.assertIn(b"kerf_trials", server.request("GET", "/metrics")[2])
            self.assertEqual(len(server.json("GET", "/v1/workers")[1]["workers"]), 1)
            self.assertEqual(len(server.json("GET", "/v1/hardware")[1]["hardware"]), 1)

    def test_what_looks_cost_and_what_is_nearest_where_nothing_is_feasible(self):
        with serving(workers=1) as server:
            study = {**self.upload_study(server, 12), "search": {"sampler": "profile", "seed": 2},
                     "constraints": [{"metric": "storage_bytes", "max": 1024}, {"metric": "accuracy", "min": 0.1}]}
            path = "/v1/studies/" + server.json("POST", "/v1/studies", study)[1]["id"]
            support.wait_until(lambda: server.json("GET", path)[1]["state"] == "complete", 120, "the study's end")
            study = server.json("GET", path)[1]
            self.assertEqual(set(study["profile"]), {"seconds", "probes", "reused", "unknown", "labelled", "unasked", "statistics_seconds",
                                                     "trial_seconds", "charged_trials"})
            self.assertGreater(study["profile"]["probes"], 0)
            self.assertGreaterEqual(study["profile"]["charged_trials"], 1)
            self.assertEqual(study["progress"]["charged_trials"], study["profile"]["charged_trials"])
            self.assertEqual(study["progress"]["finished"] + study["progress"]["charged_trials"], 12)

            front = server.json("GET", path + "/front")[1]
            self.assertEqual((front["front"], front["tied"]), ([], []))
            near = front["nearest_miss"]
            (missed,) = near["missed"]
            self.assertEqual((missed["metric"], missed["max"]), ("storage_bytes", 1024))
            self.assertEqual(missed["value"], near["metrics"]["storage_bytes"])
            trials = server.json("GET", path + "/trials")[1]["trials"]
            self.assertEqual(missed["value"], min(t["metrics"]["storage_bytes"] for t in trials))

            # A sampler that takes no looks has none to pay for.
            other = "/v1/studies/" + server.json("POST", "/v1/studies", self.upload_study(server, 3))[1]["id"]
            support.wait_until(lambda: server.json("GET", other)[1]["state"] == "complete", 120, "the study's end")
            study = server.json("GET", other)[1]
            self.assertIsNone(study["profile"])
            self.assertNotIn("charged_trials", study["progress"])

    def test_everything_is_there_after_a_restart(self):
        with support.scratch() as folder:
            server = Server(folder, 0)
            study = self.upload_study(server, 5)
            made = server.json("POST", "/v1/studies", study, headers={"Idempotency-Key": "k"})[1]
            server.process.kill()
            server.process.wait()
            server.process.stdout.close()
            server.log.close()
            again = Server(folder, 0)
            self.assertEqual(again.token, server.token)
            self.assertEqual(again.json("GET", f"/v1/studies/{made['id']}")[1]["definition"]["model"], study["model"])
            self.assertEqual(again.json("POST", "/v1/studies", study, headers={"Idempotency-Key": "k"})[1]["id"], made["id"])
            self.assertEqual(len(again.json("GET", "/v1/datasets")[1]["datasets"]), 3)
            self.assertEqual(again.json("POST", f"/v1/studies/{made['id']}/pause", {})[1]["state"], "paused")
            self.assertEqual(again.json("POST", f"/v1/studies/{made['id']}/cancel", {})[1]["state"], "cancelled")
            self.assertEqual(again.stop(), 0)

    def test_who_is_refused(self):
        with serving() as server:
            routes = [("GET", "/v1/studies"), ("POST", "/v1/studies"), ("GET", "/v1/studies/x"), ("GET", "/v1/models"),
                      ("POST", "/v1/models"), ("GET", "/v1/studies/x/events"), ("POST", "/v1/studies/x/cancel"),
                      ("GET", "/v1/workers"), ("GET", "/v1/hardware"), ("DELETE", "/v1/studies/x"),
                      ("GET", "/v1/no-such-thing"), ("GET", "/metrics"), ("GET", "/v1/studies/x/trials/0/model")]
            for method, path in routes:
                for token in (None, "wrong"):
                    self.assertEqual(server.request(method, path, token=token)[0], 401, (method, path))
            for path in ("/", "/healthz", "/readyz", "/openapi.json", "/app.js", "/dom.js", "/plot.js", "/words.js", "/style.css"):
                self.assertEqual(server.request("GET", path, token=None)[0], 200, path)
            self.assertEqual(server.request("GET", "/v1/studies", headers={"Host": "evil.example"})[0], 403)
            self.assertEqual(server.request("GET", "/v1/studies", headers={"Origin": "http://evil.example"})[0], 403)
            done = support.kerf("serve", "--data-dir", server.folder / "other", "--listen", "0.0.0.0:0", check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("--insecure", done.stderr)
            done = support.kerf("serve", "--data-dir", server.folder / "data", "--listen", "127.0.0.1:0", check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(str(server.process.pid), done.stderr)

    def test_bad_requests_get_problems(self):
        with serving() as server:
            def problem(status, *arguments, **more):
                got, headers, body = server.request(*arguments, **more)
                self.assertEqual(got, status, body)
                self.assertEqual(headers["Content-Type"], "application/problem+json")
                return json.loads(body)["detail"]
            problem(404, "GET", "/v1/studies/none")
            problem(404, "GET", "/v1/studies/none/trials")
            problem(404, "GET", "/v1/studies/none/front")
            problem(404, "GET", "/v1/studies/none/events")
            problem(404, "GET", "/nothing")
            problem(404, "GET", "/../../etc/passwd")
            problem(404, "GET", "/%2e%2e%2fetc%2fpasswd")
            problem(405, "PUT", "/v1/studies")
            problem(400, "GET", "/v1/studies?limit=0")
            problem(400, "GET", "/v1/studies/x/trials/abc")
            problem(400, "POST", "/v1/studies", "{not json")
            problem(400, "POST", "/v1/studies", "[" * 100000)
            self.assertIn("objectives", problem(400, "POST", "/v1/studies", {"model": "m", "data": "d", "objectves": 1}))
            self.assertIn("sha256", problem(400, "POST", "/v1/studies", {"model": "/etc/passwd", "data": "d"}))
            problem(413, "POST", "/v1/studies", '"' + "x" * (2 << 20) + '"')
            problem(501, "POST", "/v1/sweeps", {})

    def test_malformed_http(self):
        with serving() as server:
            host = f"Host: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n".encode()
            chunked = b"POST /v1/models HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50 + b"0\r\n\r\n"
            self.assertIn(b" 411 ", server.raw(chunked, pieces=len(chunked)).split(b"\r\n")[0])
            self.assertIn(b" 431 ", server.raw(b"GET / HTTP/1.1\r\n" + host + b"X: " + b"a" * 20000 + b"\r\n\r\n").split(b"\r\n")[0])
            self.assertIn(b" 400 ", server.raw(b"NONSENSE\r\n\r\n").split(b"\r\n")[0])
            self.assertIn(b" 400 ", server.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").split(b"\r\n")[0])
            self.assertIn(b" 411 ", server.raw(b"POST /v1/models HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n").split(b"\r\n")[0])
            server.raw(bytes(range(256)) * 40)
            # It still serves.
            self.assertEqual(server.request("GET", "/healthz")[0], 200)


if __name__ == "__main__":
    unittest.main()
