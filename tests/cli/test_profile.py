"""The native sampler's profile: taken by workers, paid for, shared by studies, and not lost when
everything is killed while it is taken."""
import json
import os
import signal
import sqlite3
import subprocess
import unittest

import support

SPACE = {"default": {"weight_bits": [4, 8, 16, 32], "activation_bits": [8, 32]}}
TRIALS = 16
LOOKS = 10 * 5 + 12  # values of ten layers; f32, five rounds, three kinds of activations in turn


class Profile(unittest.TestCase):
    def study(self, folder, seed):
        case = next(c for c in support.example_cases() if c.name == "shapes/resnet8")
        file = folder / f"study{seed}.json"
        file.write_text(json.dumps(case.study(space=SPACE, budget={"trials": TRIALS},
                                              search={"sampler": "profile", "seed": seed})))
        return file

    def run_study(self, folder, seed):
        return support.kerf_json("run", self.study(folder, seed), "--data-dir", folder / "data",
                                 "--workers", "2", "--quiet")

    def check(self, report):
        profile = report["profile"]
        self.assertEqual(len(report["trials"]) + profile["charged_trials"], TRIALS)
        self.assertTrue(all(t["state"] == "complete" for t in report["trials"]))
        self.assertEqual(profile["probes"] + profile["reused"] + profile["unknown"], LOOKS)
        self.assertGreaterEqual(len(report["front"]), 2)
        return profile

    def test_it_is_paid_for_once_and_shared(self):
        with support.scratch() as folder:
            first = self.check(self.run_study(folder, 1))
            self.assertGreater(first["probes"], LOOKS / 4)
            self.assertGreaterEqual(first["charged_trials"], 1)
            self.assertGreater(first["seconds"], 0)
            second = self.check(self.run_study(folder, 2))
            self.assertEqual(second["reused"], first["probes"])
            # What there was no time for is looked at now.
            self.assertLessEqual(second["probes"], first["unknown"])
            if first["unknown"] == 0:
                self.assertEqual(second["charged_trials"], 0)

    def test_killed_while_it_is_taken(self):
        with support.scratch() as folder:
            study, data = self.study(folder, 3), folder / "data"
            command = [support.KERF, "run", str(study), "--data-dir", str(data), "--workers", "2", "--json", "--quiet"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  start_new_session=True) as server:
                support.wait_until(lambda: self.looking(data) or server.poll() is not None, 120, "a look")
                self.assertIsNone(server.poll(), "it ended before a look was seen")
                os.killpg(server.pid, signal.SIGKILL)
            report = support.kerf_json("run", study, "--data-dir", data, "--workers", "2", "--quiet")
            self.assertGreater(self.check(report)["probes"], 0)

    def looking(self, data):
        """Whether a part of the profile is in a worker's hands."""
        if not (data / "kerf.db").exists():
            return False
        try:
            with sqlite3.connect(f"file:{data / 'kerf.db'}?mode=ro", uri=True, timeout=5) as db:
                return db.execute("select count(*) from work where kind = 4 and state = 'running'").fetchone()[0] > 0
        except sqlite3.OperationalError:
            return False


if __name__ == "__main__":
    unittest.main()
