#!/usr/bin/env python3
"""Makes indicators.json: IGD+ and attainment surfaces that moocore gives some fronts.

Needs numpy and moocore (make's test environment has both):
    build/venv-test/bin/python tests/golden/search/make_indicators.py

Source of the values: moocore (Carlos Fonseca, Manuel López-Ibáñez, Luís Paquete, Andreia Guerreiro;
LGPL), its functions igd_plus and eaf. All objectives are minimised but where a case says otherwise.
"""

import json
import pathlib

import moocore
import numpy as np


def igd_cases(random):
    for objectives in (2, 3, 4):
        for maximised in (False, True):
            points = random.random((12, objectives)).round(6)
            reference = (random.random((9, objectives)) * 0.7).round(6)
            value = moocore.igd_plus(points, ref=reference, maximise=maximised)
            yield {
                "directions": ["maximize" if maximised else "minimize"] * objectives,
                "points": points.tolist(),
                "reference": reference.tolist(),
                "igd_plus": float(value),
            }


def attainment_cases(random):
    for runs in (3, 5):
        sets = [random.random((7, 2)).round(6) for _ in range(runs)]
        data = np.vstack(sets)
        owner = np.repeat(np.arange(1, runs + 1), 7)
        for level in range(1, runs + 1):
            surface = moocore.eaf(data, sets=owner, percentiles=[100.0 * level / runs])[:, :2]
            surface = surface[np.argsort(surface[:, 0])]
            yield {"runs": [s.tolist() for s in sets], "level": level, "surface": surface.tolist()}


random = np.random.default_rng(20)
document = {
    "provenance": f"make_indicators.py, moocore {moocore.__version__}, numpy {np.__version__}",
    "igd_plus": list(igd_cases(random)),
    "attainment": list(attainment_cases(random)),
}
target = pathlib.Path(__file__).parent / "indicators.json"
target.write_text(json.dumps(document, indent=1) + "\n")
