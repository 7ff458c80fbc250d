"""kerf simulate: the search on a table, as a user drives it."""
import json
import random
import unittest

import moocore
import numpy as np

import support

SAMPLERS = ("profile", "optuna-tpe", "optuna-nsga2", "optuna-nsga3", "optuna-bruteforce", "random")


def table(layers=6):
    return {"objectives": [{"metric": "loss", "direction": "minimize"}, {"metric": "latency", "direction": "minimize"}],
            "layers": [{"name": f"l{i}", "choices": [{"weight_bits": b, "loss": 0.03 * (8 - b) * (1 + i % 3), "latency": 0.2 * b,
                                                      "profile": {"loss": 0.02 * (8 - b) * (1 + i % 3), "latency": 0.2 * b}}
                                                     for b in (2, 4, 8)]} for i in range(layers)],
            "ties": [["l0", "l3"]],
            "constants": {"loss": 0.0, "latency": 3.0},
            "pairs": [{"layers": ["l1", "l2"], "choices": [0, 1], "loss": 0.02}],
            "noise": {"latency": 0.01},
            "reference": {"loss": 6.0, "latency": 20.0},
            "profile_cost": 4.5}


class Simulate(unittest.TestCase):
    def setUp(self):
        self.scratch = support.scratch()
        self.folder = self.scratch.__enter__()
        self.addCleanup(self.scratch.__exit__, None, None, None)
        self.file = self.folder / "table.json"
        self.file.write_text(json.dumps(table()))

    def simulate(self, *arguments):
        return support.kerf_json("simulate", self.file, *arguments)

    def check(self, report, trials):
        self.assertEqual(len(report["trials"]), trials)
        self.assertEqual(len(report["hypervolume"]), trials)
        self.assertEqual(report["hypervolume"], sorted(report["hypervolume"]))
        seen = set()
        for trial in report["trials"]:
            self.assertEqual(len(trial["choices"]), 6)
            self.assertEqual(trial["choices"][0], trial["choices"][3])
            seen.add(tuple(trial["choices"]))
        self.assertEqual(len(seen), trials)
        front = [(m["metrics"]["loss"], m["metrics"]["latency"]) for m in report["front"]]
        self.assertEqual(front, sorted(front))
        everything = [(t["metrics"]["loss"], t["metrics"]["latency"]) for t in report["trials"]]
        best = [p for p in everything if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in everything)]
        self.assertEqual(sorted(front), sorted(best))

    def test_every_sampler_keeps_the_contract(self):
        for sampler in SAMPLERS:
            with self.subTest(sampler):
                report = self.simulate("--sampler", sampler, "--trials", "20", "--seed", "3")
                # The profile is paid for: 4.5 of 20 trials, and half a trial can't be run.
                self.check(report, 15 if sampler == "profile" else 20)
                self.assertEqual(report, self.simulate("--sampler", sampler, "--trials", "20", "--seed", "3"))

    def test_measured_values_are_the_tables_but_for_the_noise(self):
        t = table()
        for trial in self.simulate("--sampler", "random", "--trials", "30")["trials"]:
            loss = sum(layer["choices"][c]["loss"] for layer, c in zip(t["layers"], trial["choices"]))
            loss += 0.02 if trial["choices"][1:3] == [0, 1] else 0
            latency = 3 + sum(layer["choices"][c]["latency"] for layer, c in zip(t["layers"], trial["choices"]))
            self.assertAlmostEqual(trial["metrics"]["loss"], loss)
            self.assertAlmostEqual(trial["metrics"]["latency"], latency, delta=0.06 * latency)

    def test_seeds_give_median_and_spread(self):
        report = self.simulate("--sampler", "random", "--trials", "12", "--seed", "5", "--seeds", "3")
        self.assertEqual([one["seed"] for one in report["seeds"]], [5, 6, 7])
        curves = report["hypervolume"]
        self.assertEqual({len(c) for c in curves.values()}, {12})
        for least, median, most in zip(curves["least"], curves["median"], curves["most"]):
            self.assertLessEqual(least, median)
            self.assertLessEqual(median, most)
        alone = self.simulate("--sampler", "random", "--trials", "12", "--seed", "6")
        self.assertEqual(report["seeds"][1]["trials"], alone["trials"])

    def test_front_and_hypervolume_equal_moocores(self):
        for objectives in (2, 3, 4):
            with self.subTest(objectives):
                rng = random.Random(objectives)
                names = [f"m{i}" for i in range(objectives)]
                maximise = [i == 0 for i in range(objectives)]
                # Few values: points that are equal, that tie in one objective, and most of them dominated.
                layers = [{"name": f"l{i}", "choices": [{n: rng.randint(0, 2) / 4 for n in names} for _ in range(3)]} for i in range(4)]
                reference = {n: 0.5 if m else 1.9 for n, m in zip(names, maximise)}
                self.file.write_text(json.dumps({
                    "objectives": [{"metric": n, "direction": "maximize" if m else "minimize"} for n, m in zip(names, maximise)],
                    "layers": layers, "reference": reference}))
                report = self.simulate("--sampler", "random", "--trials", "70")
                points = np.array([[t["metrics"][n] for n in names] for t in report["trials"]])
                front = moocore.is_nondominated(points, maximise=maximise, keep_weakly=True)
                self.assertLess(len(np.unique(points, axis=0)), len(points))
                self.assertLess(front.sum(), len(points))
                self.assertEqual(sorted(m["trial"] for m in report["front"]), np.flatnonzero(front).tolist())
                for n, got in enumerate(report["hypervolume"], start=1):
                    expected = moocore.hypervolume(points[:n], ref=list(reference.values()), maximise=maximise)
                    self.assertAlmostEqual(got, expected, delta=1e-12 * max(1, expected))
                self.assertGreater(report["hypervolume"][-1], 0)

    def test_fifty_layers_open_at_once(self):
        wide = table(50)
        self.file.write_text(json.dumps(wide))
        for sampler in ("profile", "random", "optuna-tpe"):
            report = self.simulate("--sampler", sampler, "--trials", "12")
            self.assertEqual(len(report["trials"][0]["choices"]), 50)
        done = support.kerf("simulate", self.file, "--sampler", "optuna-bruteforce", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "the space has .* points; expected at most 65536")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)

    def refuse(self, *arguments):
        done = support.kerf("simulate", *arguments, "--json", check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        return done.stderr

    def test_bad_use_is_one_line(self):
        for arguments in (["--sampler", "guess"], ["--trials", "0"], ["--seed", "-1"], ["--seed", "99999999999999999999"],
                          ["--seed", "1.5"], ["--seeds", "0"]):
            self.refuse(self.file, *arguments)
        self.assertIn("none.json", self.refuse(self.folder / "none.json"))

    def test_bad_tables_are_one_line_that_says_where(self):
        whole = json.dumps(table())
        for text, says in (("", "line 1"), ("no table", "line 1"), (whole[:200], "line 1"), (whole + "x", "end of input"),
                           ("[" * 100000, "nested deeper"), ("[]", "expected an object"), ("{}", "table.layers"),
                           (whole.replace("0.02}]", "NaN}]", 1), "last read"), (whole.replace('"loss": 0.0,', '"loss": 1e999,', 1), "overflow"),
                           (whole.replace('"l1", "l2"', '"l1", "l9"'), '"l9"')):
            self.assertNotEqual(text, whole)
            self.file.write_text(text)
            error = self.refuse(self.file)
            self.assertIn(says, error)
            self.assertLess(len(error), 400)

    def test_where_nothing_is_feasible_the_nearest_miss_is_named(self):
        self.file.write_text(json.dumps({**table(), "constraints": [{"metric": "latency", "max": 1}, {"metric": "loss", "min": -1}]}))
        report = self.simulate("--trials", "12")
        near = report["nearest_miss"]
        self.assertEqual(report["front"], [])
        self.assertEqual(near["metrics"]["latency"], min(t["metrics"]["latency"] for t in report["trials"]))
        self.assertAlmostEqual(near["violation"], near["metrics"]["latency"] - 1)
        said = support.kerf("simulate", self.file, "--trials", "12").stdout
        self.assertRegex(said, rf"no feasible trial; the nearest is trial {near['trial']}, latency [0-9.]+ > 1\n")

    def test_a_profile_that_takes_the_whole_budget_is_said(self):
        done = support.kerf("simulate", self.file, "--trials", "4", "--json")
        self.assertEqual(json.loads(done.stdout)["trials"], [])
        self.assertIn("profile costs 4.5 trials of 4", done.stderr)


if __name__ == "__main__":
    unittest.main()
