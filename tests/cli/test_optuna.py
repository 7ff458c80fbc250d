"""kerf export-optuna writes what Optuna itself loads; kerf run with Optuna's samplers says what it lacks."""
import json
import os
import shutil
import subprocess
import unittest

import support
from serving import serving

PYTHON = os.environ.get("KERF_PYTHON", str(support.ROOT / "build/venv/bin/python"))
SPACE = {"default": {"weight_bits": [4, 8, 32], "activation_bits": [8, 32]}, "global": {"range": ["minmax", "mse"]}}

LOAD = r"""
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = "sqlite:///" + sys.argv[1]
names = optuna.get_all_study_names(storage)
study = optuna.load_study(study_name=names[0], storage=storage)
print(json.dumps({
    "names": names,
    "directions": [d.name.lower() for d in study.directions],
    "metrics": study.metric_names,
    "attributes": study.user_attrs,
    "best": [t.number for t in study.best_trials],
    "trials": [{
        "number": t.number, "state": t.state.name, "values": t.values, "params": t.params,
        "constraints": t.constraints, "attributes": t.user_attrs,
        "start": t.datetime_start.isoformat() if t.datetime_start else None,
        "complete": t.datetime_complete.isoformat() if t.datetime_complete else None,
        "choices": {n: list(d.choices) for n, d in t.distributions.items()},
    } for t in study.trials]}))
"""


def load(path):
    done = subprocess.run([PYTHON, "-c", LOAD, str(path)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


@unittest.skipUnless(subprocess.run([PYTHON, "-c", "import optuna"], capture_output=True).returncode == 0,
                     "skipped: no Python with Optuna")
class ExportOptuna(unittest.TestCase):
    def setUp(self):
        self.scratch = support.scratch()
        self.folder = self.scratch.__enter__()
        self.addCleanup(self.scratch.__exit__, None, None, None)

    def run_study(self, trials=8, **changes):
        study = self.folder / "study.json"
        case = support.example_cases()[0]
        study.write_text(json.dumps(case.study(space=SPACE, budget={"trials": trials}, **changes)))
        return support.kerf_json("run", study, "--data-dir", self.folder / "data", "--quiet", timeout=600)

    def export(self, report, **more):
        path = self.folder / "study.db"
        return path, support.kerf("export-optuna", report["study"], "-o", path, "--data-dir", self.folder / "data", **more)

    def test_optuna_loads_what_was_measured(self):
        report = self.run_study(constraints=[{"metric": "accuracy_drop", "max": 0.01}])
        path, _ = self.export(report)
        got = load(path)
        self.assertEqual(len(got["names"]), 1)
        self.assertIn(report["study"], got["names"][0])
        self.assertEqual(got["directions"], ["maximize", "minimize", "minimize"])
        self.assertEqual(got["metrics"], ["accuracy", "latency_p50_us", "storage_bytes"])
        self.assertEqual(got["attributes"]["kerf_study"], report["study"])
        self.assertEqual(got["attributes"]["definition"]["budget"]["trials"], 8)
        self.assertEqual(len(got["trials"]), len(report["trials"]))
        states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        for ours, theirs in zip(report["trials"], got["trials"]):
            self.assertEqual(ours["number"], theirs["number"])
            self.assertEqual(states[ours["state"]], theirs["state"])
            self.assertEqual(theirs["attributes"]["plan"], ours["candidate"])
            self.assertEqual(theirs["attributes"]["metrics"], ours["metrics"])
            self.assertIsNotNone(theirs["start"])
            self.assertIsNotNone(theirs["complete"])
            self.assertAlmostEqual(theirs["constraints"]["accuracy_drop <= 0.01"], ours["metrics"]["accuracy_drop"] - 0.01)
            if ours["state"] == "complete":
                self.assertEqual(theirs["values"], [ours["metrics"][m] for m in got["metrics"]])
            self.assertEqual(set(theirs["params"]), {"fc1.precision", "fc2.precision", "fc3.precision", "global.range"}
                             & set(theirs["params"]))
            for name, value in theirs["params"].items():
                self.assertIn(value, theirs["choices"][name])
        feasible = [t["number"] for t in report["trials"]
                    if t["state"] == "complete" and t["metrics"]["accuracy_drop"] <= 0.01]
        self.assertLessEqual({m["trial"] for m in report["front"]}, set(feasible))
        self.assertEqual(sorted(m["trial"] for m in report["front"]), sorted(set(got["best"]) & set(feasible)))

    def test_a_running_server_gives_the_same_database(self):
        report = self.run_study(trials=5)
        _, _ = self.export(report)
        with serving(folder=self.folder) as server:
            where = ["--server", server.url.geturl()]
            env = {**os.environ, "KERF_TOKEN": server.token}
            path = self.folder / "served.db"
            support.kerf("export-optuna", report["study"], "-o", path, *where, env=env)
            self.assertEqual(load(path), load(self.folder / "study.db"))
            for arguments, more in (([report["study"], *where], {"KERF_TOKEN": "wrong"}), (["nothing", *where], env)):
                done = support.kerf("export-optuna", *arguments, "-o", self.folder / "none.db", env={**os.environ, **more}, check=False)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1)
                self.assertFalse((self.folder / "none.db").exists())
            # The directory is the server's while it runs.
            done = support.kerf("export-optuna", report["study"], "-o", self.folder / "none.db", "--data-dir", self.folder / "data", check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("stop it or take another data directory", done.stderr)

    def test_an_existing_file_is_left_alone(self):
        report = self.run_study(trials=2)
        (self.folder / "study.db").write_text("mine")
        path, done = self.export(report, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is there already", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        self.assertEqual(path.read_text(), "mine")

    def test_a_file_of_any_name_is_written_and_no_other(self):
        report = self.run_study(trials=2)
        folder = self.folder / "any names"
        folder.mkdir()
        (folder / "a").write_text("mine")
        for name in ("a?b.db", "c#d%20 e.db", "été:3.db"):
            support.kerf("export-optuna", report["study"], "-o", folder / name, "--data-dir", self.folder / "data")
            (folder / name).rename(self.folder / "study.db")
            self.assertEqual(len(load(self.folder / "study.db")["trials"]), 2)
            self.assertEqual([p.name for p in folder.iterdir()], ["a"])
            self.assertEqual((folder / "a").read_text(), "mine")

    def test_what_can_not_be_written_is_one_line_and_leaves_nothing(self):
        report = self.run_study(trials=2)
        path = self.folder / "none/study.db"
        done = support.kerf("export-optuna", report["study"], "-o", path, "--data-dir", self.folder / "data", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("study.db.part: can't be written: No such file or directory", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        # Python that has no Optuna: nothing of the file stays.
        _, done = self.export(report, check=False, env={**os.environ, "KERF_PYTHON": shutil.which("true")})
        self.assertEqual(done.returncode, 1)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["data", "study.json"])

    def test_an_unknown_study_is_one_line(self):
        self.run_study(trials=2)
        path, done = self.export({"study": "nothing"}, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        self.assertFalse(path.exists())

    def test_a_space_too_large_for_brute_force_is_refused_in_one_line(self):
        study = self.folder / "study.json"
        study.write_text(json.dumps(support.example_cases()[2].study(budget={"trials": 3}, search={"sampler": "optuna-bruteforce"})))
        done = support.kerf("run", study, "--quiet", check=False, timeout=600)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"optuna-bruteforce: the space has .* points; expected at most 65536")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)

    def test_a_small_space_is_tried_whole_by_brute_force(self):
        study = self.folder / "study.json"
        case = support.example_cases()[0]
        space = {"default": {"weight_bits": [8, 32], "activation_bits": [8, 32]}}
        study.write_text(json.dumps(case.study(space=space, budget={"trials": 100}, search={"sampler": "optuna-bruteforce"})))
        report = support.kerf_json("run", study, "--quiet", timeout=600)
        self.assertEqual(report["reason"], "space exhausted")
        plans = {json.dumps(t["candidate"], sort_keys=True) for t in report["trials"]}
        self.assertEqual(len(plans), len(report["trials"]))


if __name__ == "__main__":
    unittest.main()
