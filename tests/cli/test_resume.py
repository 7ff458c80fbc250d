"""kill -9 of any process in the middle of a study, then the same command: nothing is lost, nothing
is measured twice, nobody is left behind."""
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import unittest

import support

SPACE = {"default": {"weight_bits": [2, 3, 4, 5, 6, 7, 8, 32], "activation_bits": [8, 32]}}


def processes_of(marker):
    """Processes whose environment carries the marker: ours, and all that they started."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
    return found


def role(command):
    joined = " ".join(command)
    for name in ("runner", "worker", "run"):
        if f" {name}" in joined and "kerf" in joined:
            return name
    return "bridge"


class Resume(unittest.TestCase):
    def finished(self, data):
        """Finished trials (kind 1 of the schema) as the database has them, read beside the running server."""
        path = data / "kerf.db"
        if not path.exists():
            return {}
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5) as db:
                rows = db.execute("select number, result from work where kind = 1 and "
                                  "state in ('complete', 'pruned', 'failed')").fetchall()
        except sqlite3.OperationalError:
            return {}
        return {number: result for number, result in rows}

    def test_kill_anything_anywhere(self):
        seed = 20261
        print("seed", seed)
        rng = random.Random(seed)
        trials = 60
        with support.scratch() as folder:
            marker = f"KERF_TEST_MARK={folder.name}"
            env = {**os.environ, "KERF_TEST_MARK": folder.name}
            data = folder / "data"
            study = folder / "study.json"
            study.write_text(json.dumps(support.example_cases()[0].study(
                space=SPACE, budget={"trials": trials}, search={"sampler": "optuna-tpe", "seed": 5})))
            command = [support.KERF, "run", str(study), "--data-dir", str(data), "--workers", "2", "--json", "--quiet"]
            seen = {}
            for victim in ("runner", "worker", "bridge", "run", "worker", "run"):
                with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
                    target = len(self.finished(data)) + rng.randint(1, 3)
                    support.wait_until(lambda: len(self.finished(data)) >= target or server.poll() is not None, 120,
                                       f"{target} trials before the kill of a {victim}")
                    found = [pid for pid, line in processes_of(marker).items() if role(line) == victim]
                    if found:
                        try:
                            os.kill(rng.choice(found), signal.SIGKILL)
                        except ProcessLookupError:
                            pass
                    if victim != "run":  # the study goes on by itself
                        before = len(self.finished(data))
                        support.wait_until(lambda: len(self.finished(data)) > before or server.poll() is not None, 120,
                                           f"a trial after the kill of a {victim}")
                    now = self.finished(data)
                    for number, result in seen.items():
                        self.assertEqual(now.get(number), result, f"trial {number} was lost or changed")
                    seen = now
                    server.kill()
                    server.wait()
                support.wait_until(lambda: not processes_of(marker), 10, f"orphans after the kill of a {victim}")
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual([t["number"] for t in report["trials"]], list(range(trials)))
            self.assertTrue(all(t["state"] in ("complete", "failed") for t in report["trials"]))
            self.assertGreaterEqual(sum(t["state"] == "complete" for t in report["trials"]), trials - 2)
            plans = [json.dumps(t["candidate"], sort_keys=True) for t in report["trials"]]
            self.assertEqual(len(set(plans)), trials, "a candidate was measured twice")
            final = self.finished(data)
            self.assertEqual(len(final), trials)
            for number, result in seen.items():
                self.assertEqual(final[number], result, f"trial {number} was lost or changed")
            self.assertFalse(processes_of(marker))


if __name__ == "__main__":
    unittest.main()
