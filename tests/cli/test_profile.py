"""The native sampler's profile: taken by workers, paid for, shared by studies, and not lost when
everything is killed while it is taken."""
import contextlib
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
            if first["unknown"] == first["unasked"] == 0:
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

    def test_same_seed_same_trials_whenever_it_is_killed(self):
        """Objectives that have no noise, and a budget in which there is time for every look, however slow."""
        case = support.example_cases()[0]
        with support.scratch() as folder:
            study = folder / "study.json"
            study.write_text(json.dumps(case.study(
                space={"default": {"weight_bits": [2, 5, 32], "activation_bits": [8, 32]},
                       "layers": [{"match": "fc3", "weight_bits": [8, 32], "activation_bits": [32]}]}, budget={"trials": 1000},
                objectives=[{"metric": "accuracy"}, {"metric": "storage_bytes"}], search={"sampler": "profile", "seed": 3})))
            reports = []
            for moments in ((), ((4, 1),), ((1, 3), (1, 9), (1, 20)), ((1, 40), (2, 1)), ((0, 1), (4, 2), (2, 2))):
                data = folder / f"data{len(reports)}"
                command = [support.KERF, "run", str(study), "--data-dir", str(data), "--workers", "1", "--json", "--quiet"]
                for kind, count in moments:
                    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as server:
                        support.wait_until(lambda: self.begun(data, kind) >= count or server.poll() is not None, 120, f"work {kind}")
                        with contextlib.suppress(ProcessLookupError):  # it had ended: few members, say
                            os.killpg(server.pid, signal.SIGKILL)
                report = support.kerf_json("run", study, "--data-dir", data, "--workers", "1", "--quiet")
                self.assertEqual(report["profile"]["unknown"], 0)
                self.assertEqual({t["state"] for t in report["trials"]}, {"complete"})
                self.assertTrue(all("verification" in m for m in report["front"]))
                reports.append(report)
            first = [t["candidate"] for t in reports[0]["trials"]]
            self.assertEqual(len(first), 5 * 5 * 2)
            for report in reports[1:]:
                self.assertEqual([t["candidate"] for t in report["trials"]], first)
                self.assertEqual([m["trial"] for m in report["front"]], [m["trial"] for m in reports[0]["front"]])

    def test_later_studies_have_the_channel_costs_of_the_first(self):
        """Measured anew they would differ, and with them the space and the looks that it needs."""
        case = next(c for c in support.example_cases() if c.name == "shapes/resnet8")
        with support.scratch() as folder:
            groups = []
            for seed in (1, 2):
                study = folder / "study.json"
                study.write_text(json.dumps(case.study(budget={"trials": 1}, search={"sampler": "random", "seed": seed})))
                report = support.kerf_json("run", study, "--data-dir", folder / "data", "--quiet")
                with sqlite3.connect(folder / "data" / "kerf.db") as db:
                    model, = db.execute("select body from documents where name = 'model' and study = ?",
                                        (report["study"],)).fetchone()
                model = json.loads(model)
                self.assertTrue(model["costs_hardware"])
                groups.append(model["groups"])
            self.assertGreater(len([group for group in groups[0] if "costs" in group]), 3)
            self.assertEqual(groups[0], groups[1])

    def looking(self, data):
        """Whether a part of the profile is in a worker's hands."""
        return self.count(data, "kind = 4 and state = 'running'") > 0

    def begun(self, data, kind):
        """How many pieces of work of a kind were given to a worker."""
        return self.count(data, f"kind = {kind} and state != 'waiting'")

    def count(self, data, what):
        if not (data / "kerf.db").exists():
            return 0
        try:
            with sqlite3.connect(f"file:{data / 'kerf.db'}?mode=ro", uri=True, timeout=5) as db:
                return db.execute(f"select count(*) from work where {what}").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


if __name__ == "__main__":
    unittest.main()
