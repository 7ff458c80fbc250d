"""The dashboard in a real browser: what looks cost, trials that are tied with the front, the nearest
miss, promises that don't hold; and that nothing that users wrote becomes markup."""
import copy
import json
import random
import unittest

import onnx

import browser
import support
from documents import documents
from serving import serving

HOSTILE = '<img src="/x" onerror="hacked=1">'
LAYER = HOSTILE + "fc1"
PHONE = 390


def upload_study(server, **changes):
    """digits/mlp, whose first layer has a name that would be markup."""
    case = support.example_cases()[0]
    model = onnx.load(case.model)
    next(node for node in model.graph.node if node.op_type == "Gemm").name = LAYER
    ids = {split: server.json("POST", "/v1/datasets", case.file(split).read_bytes())[1]["id"]
           for split in ("calibration", "evaluation", "test")}
    status, made = server.json("POST", "/v1/models", model.SerializeToString())
    assert status == 201, made
    study = {"name": "mlp " + HOSTILE, "model": made["id"], "data": ids, "search": {"sampler": "profile", "seed": 1},
             "budget": {"trials": 12}, **changes}
    status, made = server.json("POST", "/v1/studies", study)
    assert status == 201, made
    path = f"/v1/studies/{made['id']}"
    support.wait_until(lambda: server.json("GET", path)[1]["state"] == "complete", 120, "the study's end")
    return path


def trial(number, accuracy, bytes_, state="complete"):
    return {"number": number, "state": state, "attempts": 1,
            "candidate": {"layers": {LAYER: {"weight_bits": 8}}},
            "metrics": {"accuracy": accuracy, "storage_bytes": bytes_, "accuracy_drop": 0.98 - accuracy}}


def study_of(trials, **changes):
    """Documents of a study on two objectives, which has ended: as the API gives them."""
    study = {"id": "st_1", "name": "mlp " + HOSTILE, "state": "complete", "reason": "budget.trials", "profile": None,
             "definition": {"budget": {"trials": len(trials)}}, "progress": {"phase": "done"}}
    study.update(changes)
    front = {"study": "st_1", "front": [], "tied": [], "hypervolume": 1.5, "reference": [0, 1],
             "objectives": [{"metric": "accuracy"}, {"metric": "storage_bytes"}]}
    return study, trials, front


@unittest.skipUnless(browser.CHROMIUM, "no Chromium is installed (chromium, chromium-browser or google-chrome)")
class Dashboard(unittest.TestCase):
    def setUp(self):
        opened = browser.page()
        self.page = opened.__enter__()
        self.addCleanup(opened.__exit__, None, None, None)

    def tearDown(self):
        self.assertEqual(self.page.failures, [], "the page's script threw")

    def show(self, url, **size):
        self.page.open(url, **size)
        self.page.wait("document.querySelectorAll('#front tbody tr').length > 0", "a study's front")

    def expect_no_markup(self):
        """What users wrote stands there as text."""
        self.assertEqual(self.page.value("[document.images.length, typeof hacked]"), [0, "undefined"])
        self.assertIn(HOSTILE, self.page.text("#name"))
        self.assertIn(HOSTILE, self.page.text("#studies"))

    def test_a_real_study(self):
        with serving(workers=1) as server:
            path = upload_study(server)
            study, front = server.json("GET", path)[1], server.json("GET", path + "/front")[1]
            trials = server.json("GET", path + "/trials")[1]["trials"]
            self.show(f"{server.url.geturl()}/?token={server.token}")
            self.expect_no_markup()

            profile = study["profile"]
            charged = profile["charged_trials"]
            self.assertGreater(profile["probes"], 0)
            self.assertEqual(self.page.texts("#cost dd")[:3], [str(profile[k]) for k in ("probes", "reused", "unknown")])
            self.assertEqual(self.page.texts("#cost dd")[4], f"{charged} of 12 trials")
            self.assertEqual(self.page.texts("#numbers dd")[0], f"{len(trials)} + {charged} / 12")
            self.assertFalse(self.page.text("#looks"))
            self.assertFalse(self.page.text("#miss"))

            self.assertEqual(len(self.page.texts("#front tbody:not(.tied) [data-trial]")), len(front["front"]))
            self.assertEqual(len(self.page.texts("#front tbody.tied [data-trial]")), len(front["tied"]))
            self.assertEqual(len(self.page.texts("#plot .tied")), len(front["tied"]))
            self.page.click('#plot [data-trial="1"]')
            self.assertIn(json.dumps(LAYER), self.page.text("#trial-plan"))
            self.expect_no_markup()

    def test_a_real_study_in_which_nothing_is_feasible(self):
        with serving(workers=1) as server:
            path = upload_study(server, constraints=[{"metric": "storage_bytes", "max": 1024}, {"metric": "accuracy", "min": 0.1}])
            near = server.json("GET", path + "/front")[1]["nearest_miss"]
            self.show(f"{server.url.geturl()}/?token={server.token}")
            (missed,) = near["missed"]
            self.assertIn(f"Nothing is feasible. The nearest miss is trial {near['trial']}", self.page.text("#miss"))
            (item,) = self.page.texts("#miss li")
            too_much = (missed["value"] - 1024) / 1024
            self.assertRegex(item, r"^storage_bytes .* at most 1\.0 KiB asked for: "
                                   rf"{too_much:.1f} KiB too much \({100 * too_much:.3g} % of the bound\)$")
            self.assertEqual(self.page.texts("#front tbody tr"), ["no feasible trial"])
            self.assertEqual(len(self.page.texts("#plot .miss")), 1)
            self.page.click("#miss button")
            self.assertIn(f"Trial {near['trial']}", self.page.text("#trial-title"))
            self.assertIn(item, self.page.text("#trial-notes"))

    def test_while_looks_are_taken_it_says_so(self):
        study, trials, front = study_of([trial(0, 0.98, 58000)], state="running", reason="",
                                        progress={"phase": "profile"}, definition={"budget": {"trials": 20}})
        worker = {"name": "w", "work": {"study": "st_1", "kind": "profile", "number": 1}, "phase": "look", "share": 0.43}
        other = {"name": "v", "work": {"study": "st_2", "kind": "profile", "number": 7}, "phase": "look", "share": 0.1}
        front["front"] = [{"trial": 0, "metrics": trials[0]["metrics"], "contribution": 1}]
        with documents(study, trials, front, [worker, other]) as server:
            self.show(server.url)
            self.assertEqual(self.page.text("#now"), "taking looks")
            self.assertIn("Looks are being taken", self.page.text("#profile"))
            self.assertIn("1 worker at it: part 1 at 43 %.", self.page.text("#looks"))

            # No event says that the phase is another: the page asks for it.
            done = {"probes": 62, "reused": 3, "unknown": 4, "seconds": 75.2, "charged_trials": 2}
            server.documents["/v1/studies/st_1"] = {**study, "profile": done, "progress": {"phase": "search", "charged_trials": 2}}
            self.page.wait("document.querySelector('#looks').hidden", "the end of the looks")
            self.assertEqual(self.page.texts("#cost dd"), ["62", "3", "4", "75.2 s", "2 of 20 trials"])
            self.assertEqual(self.page.text("#now"), "searching")

    def test_what_stands_beside_the_front(self):
        study, trials, front = study_of([trial(i, 0.9 + i / 100, 1000 * (i + 1)) for i in range(6)])
        broken = {"metric": "accuracy_drop", "promised": 0.01, "interval": [0.0, 0.02], "measured": 0.05, "bound": True}
        front["front"] = [
            {"trial": 5, "metrics": trials[5]["metrics"], "verification": {"accuracy": 0.951}, "holds": True},
            {"trial": 4, "metrics": trials[4]["metrics"], "verification": {"accuracy": 0.9}, "holds": False, "broken": [broken]}]
        front["tied"] = [{"trial": 3, "with": [5, 4], "candidate": {}, "metrics": trials[3]["metrics"]},
                         {"trial": 1, "with": [4], "candidate": {}, "metrics": trials[1]["metrics"]}]
        with documents(study, trials, front) as server:
            self.show(server.url)
            self.assertEqual(sorted(self.page.value("[...document.querySelectorAll('#plot .tied')].map((n) => n.dataset.trial)")), ["1", "3"])
            self.assertEqual(self.page.value("[...document.querySelectorAll('#plot .unkept')].map((n) => n.dataset.trial)"), ["4"])
            self.assertEqual(self.page.texts("#front tbody.tied tr")[0], "2 tied: beaten by less than the noise")
            self.assertIn("beaten by 5, 4", self.page.texts("#front tbody.tied tr")[1])
            said = "accuracy_drop 5.00 %, promised 0.00 % … 2.00 %: doesn’t hold, and breaks a constraint"
            self.assertIn(said, self.page.text('#front [data-trial="4"] .broken'))
            self.assertIn("don’t hold on the test split 1", self.page.text("#numbers"))
            self.page.click('#front [data-trial="4"]')
            self.assertIn(said, self.page.text("#trial-notes"))
            self.page.click('#plot [data-trial="3"]')
            self.assertEqual(self.page.text("#trial-notes"), "Beaten by 5, 4 of the front, but by less than the noise.")

            # Drawn as rings, so that one tells them from the front and from the rest without their key.
            fills = self.page.value("['.tied', '.front', ':not(.tied, .front, .base)'].map((c) => "
                                    "getComputedStyle(document.querySelector('#plot .trial' + c)).fill)")
            self.assertEqual(len(set(fills)), 3, fills)
            self.expect_no_markup()

    def test_three_thousand_trials_on_a_phone(self):
        draw = random.Random(7)
        study, trials, front = study_of([trial(i, draw.uniform(0.6, 0.98), draw.uniform(2e3, 6e4)) for i in range(3000)])
        study.update(state="running", progress={"phase": "search"})
        trials[2999]["state"], trials[2999]["metrics"] = "running", None
        front["front"] = [{"trial": i, "metrics": trials[i]["metrics"]} for i in range(30)]
        front["tied"] = [{"trial": i, "with": list(range(12)), "candidate": {}, "metrics": trials[i]["metrics"]} for i in range(30, 600)]
        front["nearest_miss"] = {"trial": 700, "violation": 1, "metrics": trials[700]["metrics"], "candidate": {},
                                 "missed": [{"metric": "accuracy_drop", "value": 0.0201, "max": 0.02}]}
        with documents(study, trials, front) as server:
            self.show(server.url, width=PHONE, height=800)
            self.assertEqual(len(self.page.texts("#plot .trial")), 2999)
            self.assertEqual(len(self.page.texts("#plot .tied")), 570)
            self.assertIn("accuracy_drop 2.01 %, at most 2.00 % asked for: 0.01 points too much (0.5 % of the bound)", self.page.text("#miss"))
            self.assertLess(len(self.page.texts("#front tbody.tied [data-trial]")), 100)
            self.page.click("#front tbody.tied button")
            self.assertEqual(len(self.page.texts("#front tbody.tied [data-trial]")), 570)
            self.page.click('#plot [data-trial="2000"]')
            self.assertEqual(self.page.text("#trial-title"), "Trial 2000 · complete")
            # Nothing is wider than the phone, and the chart's letters aren't shrunk.
            self.assertEqual(self.page.value("document.documentElement.scrollWidth"), PHONE)
            self.assertGreater(self.page.value("document.querySelector('#plot text').getBoundingClientRect().height"), 10)

            # What has ended isn't asked for again.
            del server.asked[:]
            changed = copy.deepcopy(trials[2999])
            changed.update(trial(2999, 0.9, 3000))
            server.documents["/v1/studies/st_1/trials"] = {"trials": trials[:2999] + [changed]}
            server.documents["/v1/studies/st_1/events"] = {}
            self.page.wait("document.querySelectorAll('#plot .trial').length === 3000", "the last trial's end")
            asked = [path for path in server.asked if "/trials" in path]
            self.assertTrue(asked)
            self.assertEqual([path for path in asked if "cursor=2999" not in path and "cursor=3000" not in path], [])


if __name__ == "__main__":
    unittest.main()
