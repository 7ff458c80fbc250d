"""kerf run finds a real front, and what it promises holds in ONNX Runtime."""
import json
import re
import unittest

import support

SPACE = {"default": {"weight_bits": [4, 8, 32], "activation_bits": [8, 32],
                     "prune": {"structure": "channel", "ratios": [0, 0.25]}},
         "global": {"range": ["minmax", "mse"]}}


class Run(unittest.TestCase):
    def search(self, case, folder, trials, sampler):
        study = folder / "study.json"
        study.write_text(json.dumps(case.study(space=SPACE, budget={"trials": trials},
                                               search={"sampler": sampler, "seed": 3})))
        report = support.kerf_json("run", study, "--data-dir", folder / "data", "--quiet", timeout=600)
        states = [t["state"] for t in report["trials"]]
        self.assertEqual(states, ["complete"] * trials)
        self.assertEqual([t["number"] for t in report["trials"]], list(range(trials)))
        plans = {json.dumps(t["candidate"], sort_keys=True) for t in report["trials"]}
        self.assertEqual(len(plans), trials, "a candidate was measured twice")
        self.assertGreaterEqual(len(report["front"]), 2)
        self.assertGreater(report["hypervolume"], 0)
        self.assertIn("picture", report)
        self.assertEqual([o["direction"] for o in report["objectives"]], ["maximize", "minimize", "minimize"])
        for trial in report["trials"]:
            for key in ("accuracy", "latency_p50_us", "latency_ratio", "storage_bytes", "weight_bytes",
                        "activation_peak_bytes", "rss_peak_bytes", "accuracy_ci95", "latency_ci95_us"):
                self.assertIn(key, trial["metrics"])
            self.assertIn("cpu_model", trial["hardware"])
        return report

    @support.needs_vnni
    def check_promises(self, case, folder, report):
        x, y = case.inputs("evaluation"), case.labels("evaluation")
        base = support.accuracy(support.onnxruntime_outputs(case.model, x), y)
        self.assertAlmostEqual(report["baseline"]["metrics"]["accuracy"], base, delta=0.001)
        for member in report["front"]:
            plan = folder / "plan.json"
            plan.write_text(json.dumps(member["candidate"]))
            support.kerf("export", case.model, "--plan", plan, "--calibration", case.file("calibration"),
                         *case.arguments(), "-o", folder / "out.onnx")
            got = support.accuracy(support.onnxruntime_outputs(folder / "out.onnx", x), y)
            self.assertAlmostEqual(got, member["metrics"]["accuracy"], delta=0.005, msg=str(member["candidate"]))
            self.assertIn("accuracy", member["verification"])
            self.assertEqual(member["holds"], not member.get("broken"))
        self.assertFalse({m["trial"] for m in report["tied"]} & {m["trial"] for m in report["front"]})

    def test_shapes_with_tpe(self):
        with support.scratch() as folder:
            case = next(c for c in support.example_cases() if c.name == "shapes/resnet8")
            report = self.search(case, folder, 14, "optuna-tpe")
            self.check_promises(case, folder, report)

    def test_digits_with_nsga2_and_random(self):
        for sampler in ("optuna-nsga2", "random"):
            with support.scratch() as folder:
                report = self.search(support.example_cases()[1], folder, 8, sampler)
                self.check_promises(support.example_cases()[1], folder, report)

    def test_models_of_others(self):
        with support.scratch() as outer:
            cases = support.shared_cases(outer)
            if not cases:
                self.skipTest("skipped: no shared data beside the checkout")
            for case in cases:
                with self.subTest(case.name), support.scratch() as folder:
                    self.check_promises(case, folder, self.search(case, folder, 10, "optuna-tpe"))

    def test_every_recovery_of_a_space_is_tried_and_none_fails(self):
        space = {"default": {"weight_bits": [2, 3, 8], "activation_bits": [8, 32], "rounding": ["nearest", "adaptive"],
                             "prune": [{"structure": "channel", "ratios": [0, 0.25], "score": "mean_output"},
                                       {"structure": "unstructured", "ratio": 0.5, "score": "wanda"}],
                             "rank": [1, {"energy": 0.95}], "codebook": [0, 16]},
                 "global": {"recovery": ["none", "bias_correction", "reconstruct", "batch_norm", "distill", ["reconstruct", "distill"]],
                            "range": ["moving_average", "mse"], "distill": {"epochs": 2, "seconds": 1000}}}
        for case in support.example_cases()[:2]:
            with self.subTest(case.name), support.scratch() as folder:
                study = folder / "study.json"
                study.write_text(json.dumps(case.study(space=space, budget={"trials": 24})))
                report = support.kerf_json("run", study, "--data-dir", folder / "data", "--quiet", timeout=600)
                self.assertEqual([t["error"] for t in report["trials"] if t["state"] == "failed"], [])
                self.assertEqual({t["state"] for t in report["trials"]} - {"complete", "pruned"}, set())
                tried = {str(t["candidate"].get("global", {}).get("recovery", "none")) for t in report["trials"]}
                self.assertGreaterEqual(len(tried), 4, tried)
                for trial in report["trials"]:
                    steps = trial["candidate"].get("global", {}).get("recovery", "none")
                    if trial["state"] == "complete" and "distill" in steps:
                        self.assertGreater(trial["metrics"]["recovery_seconds"], 0)

    def test_candidates_that_break_a_constraint_are_stopped_early(self):
        case = next(c for c in support.example_cases() if c.name == "shapes/resnet8")
        bound = 0.02
        space = {"default": {"weight_bits": [2, 4, 8], "activation_bits": [8]}}
        with support.scratch() as folder:
            study = folder / "study.json"
            study.write_text(json.dumps(case.study(space=space, budget={"trials": 14}, search={"sampler": "random", "seed": 2},
                                                   constraints=[{"metric": "accuracy_drop", "max": bound}])))
            report = support.kerf_json("run", study, "--data-dir", folder / "data", "--quiet", timeout=600)
            self.assertEqual(len(report["trials"]), 14)
            pruned = [t for t in report["trials"] if t["state"] == "pruned"]
            self.assertGreater(len(pruned), 2)
            x, y = case.inputs("evaluation"), case.labels("evaluation")
            base = support.accuracy(support.onnxruntime_outputs(case.model, x), y)
            for trial in pruned:
                self.assertRegex(trial["reason"], r"accuracy_drop is surely above 0\.02, the study's limit \(.* samples\)")
                self.assertNotIn("latency_p50_us", trial["metrics"])
                self.assertLessEqual(trial["metrics"]["samples"], len(y))
                self.assertIn("storage_bytes", trial["metrics"])
                self.assertIsNone(trial["error"])
            self.assertFalse({t["number"] for t in pruned} & {m["trial"] for m in report["front"] + report["tied"]})
            # What was stopped does break the bound, in ONNX Runtime and on all samples.
            for trial in pruned[:3]:
                plan = folder / "plan.json"
                plan.write_text(json.dumps(trial["candidate"]))
                support.kerf("export", case.model, "--plan", plan, "--calibration", case.file("calibration"),
                             *case.arguments(), "-o", folder / "out.onnx")
                got = support.accuracy(support.onnxruntime_outputs(folder / "out.onnx", x), y)
                self.assertGreater(base - got, bound - 0.002)
            # Those that were measured to the end keep it, or were near enough for that to take all samples.
            for trial in report["trials"]:
                if trial["state"] == "complete":
                    self.assertIn("latency_p50_us", trial["metrics"])
            off = json.loads(study.read_text())
            off["search"]["racing"] = False
            study.write_text(json.dumps(off))
            whole = support.kerf_json("run", study, "--data-dir", folder / "other", "--quiet", timeout=600)
            self.assertEqual({t["state"] for t in whole["trials"]}, {"complete"})

    def test_the_front_is_read_without_a_server_and_many_budgets_are_one_run(self):
        case = support.example_cases()[0]
        with support.scratch() as folder:
            study, data = folder / "study.json", folder / "data"
            space = {"default": {"weight_bits": [2, 4, 8], "activation_bits": [8]}}
            study.write_text(json.dumps(case.study(space=space, budget={"trials": 6})))
            said = support.kerf("run", study, "--data-dir", data, "--quiet", timeout=600).stdout
            name = re.search(r"^study: (st_\w+)$", said, re.MULTILINE).group(1)
            front = support.kerf_json("front", name, "--data-dir", data)
            self.assertEqual(front["study"], name)
            sizes = {m["trial"]: m["metrics"]["storage_bytes"] for m in front["front"]}
            picked = support.kerf_json("front", name, "--data-dir", data, "--best", "storage_bytes")
            self.assertEqual([m["trial"] for m in picked["front"]], [min(sizes, key=sizes.get)])
            self.assertEqual(picked["tied"], [])
            done = support.kerf("front", name, "--data-dir", data, "--max", "storage_bytes=10", "--best", "accuracy", check=False)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, r"^kerf front: no member of the front keeps the limits; the nearest is trial \d+, storage_bytes .* > 10\n$")
            for arguments in (["nothing", "--data-dir", data], [name, "--data-dir", folder / "none"],
                              [name, "--server", "http://127.0.0.1:1"]):
                done = support.kerf("front", *arguments, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("--data-dir", done.stderr)  # what to do where no server is

    def test_where_nothing_is_feasible_the_nearest_miss_is_named(self):
        case = support.example_cases()[0]
        with support.scratch() as folder:
            study = folder / "study.json"
            space = {"default": {"weight_bits": [2, 8], "activation_bits": [8]}}
            bounds = [{"metric": "storage_bytes", "max": 1000}, {"metric": "agreement", "min": 0.99}]
            study.write_text(json.dumps(case.study(space=space, budget={"trials": 4}, constraints=bounds)))
            report = support.kerf_json("run", study, "--data-dir", folder / "data", "--quiet", timeout=600)
            self.assertEqual(report["front"], [])
            def miss(metrics):
                return max(0, metrics["storage_bytes"] / 1000 - 1) + max(0, 1 - metrics["agreement"] / 0.99)
            complete = {t["number"]: miss(t["metrics"]) for t in report["trials"] if t["state"] == "complete"}
            near = report["nearest_miss"]
            self.assertEqual(near["trial"], min(complete, key=complete.get))
            self.assertAlmostEqual(near["violation"], complete[near["trial"]])
            self.assertIn({"metric": "storage_bytes", "value": near["metrics"]["storage_bytes"], "max": 1000}, near["missed"])
            said = support.kerf("run", study, "--data-dir", folder / "data", "--quiet", timeout=600).stdout
            self.assertIn(f"no feasible trial; the nearest is trial {near['trial']}, storage_bytes", said)

    def test_members_that_the_test_split_takes_back_are_marked(self):
        case = support.example_cases()[0]
        with support.scratch() as folder:
            import numpy as np
            test = dict(np.load(case.file("test")))
            # A test split of nothing but the samples that a 2-bit model gets wrong and the f32 model right.
            plan = {"layers": {"*": {"weight_bits": 2, "activation_bits": 32}}}
            (folder / "plan.json").write_text(json.dumps(plan))
            support.kerf("export", case.model, "--plan", folder / "plan.json", *case.arguments(), "-o", folder / "poor.onnx")
            x, y = case.inputs("test"), case.labels("test")
            right = np.argmax(support.onnxruntime_outputs(case.model, x).reshape(len(y), -1), axis=1) == y
            poor = np.argmax(support.onnxruntime_outputs(folder / "poor.onnx", x).reshape(len(y), -1), axis=1) == y
            rows = np.flatnonzero(right & ~poor)
            self.assertGreater(len(rows), 5)
            np.savez(folder / "test.npz", **{name: array[rows] for name, array in test.items()})
            study = case.study(space={"default": {"weight_bits": [2, 32], "activation_bits": [32]}}, budget={"trials": 8},
                               objectives=[{"metric": "accuracy"}, {"metric": "storage_bytes"}])
            study["data"]["test"] = str(folder / "test.npz")
            (folder / "study.json").write_text(json.dumps(study))
            report = support.kerf_json("run", folder / "study.json", "--quiet", timeout=600)
            marked = {json.dumps(m["candidate"], sort_keys=True): m for m in report["front"] if not m["holds"]}
            self.assertGreaterEqual(len(marked), 1)
            for member in report["front"]:
                if member["trial"] == 0:
                    self.assertTrue(member["holds"])
            for member in marked.values():
                broken = member["broken"][0]
                self.assertEqual(broken["metric"], "accuracy_drop")
                self.assertGreater(broken["measured"], broken["interval"][1])
            table = support.kerf("run", folder / "study.json", "--quiet", timeout=600).stdout
            self.assertIn("doesn't hold", table)

    def test_more_trials_go_on_where_it_was(self):
        with support.scratch() as folder:
            study = folder / "study.json"
            study.write_text(json.dumps(support.example_cases()[0].study(space=SPACE, budget={"trials": 4})))
            first = support.kerf_json("run", study, "--quiet")
            more = support.kerf_json("run", study, "--quiet", "--trials", "7")
            self.assertEqual(first["study"], more["study"])
            self.assertEqual(len(more["trials"]), 7)
            self.assertEqual(first["trials"], more["trials"][:4])


if __name__ == "__main__":
    unittest.main()
