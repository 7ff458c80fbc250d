#!/usr/bin/env python3
"""Makes hypervolume.json: fronts with the hypervolumes that moocore gives them.

Needs numpy and moocore (make's test environment has both):
    build/venv-test/bin/python tests/golden/search/make_goldens.py
Seeds are fixed, so that a second run gives the same file.

Source of the values: moocore (Carlos Fonseca, Manuel López-Ibáñez, Luís Paquete, Andreia Guerreiro;
LGPL 2.1 or later), which the file names with its version.
"""

import json
import pathlib

import moocore
import numpy as np


def sphere(rng, count, dimensions):
    """A concave front: the positive part of the unit sphere."""
    points = np.abs(rng.standard_normal((count, dimensions)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def simplex(rng, count, dimensions):
    return rng.dirichlet(np.ones(dimensions), size=count)


def case(name, points, reference, maximise):
    points = np.asarray(points, dtype=float)
    maximise = np.asarray(maximise)
    front = moocore.is_nondominated(points, maximise=maximise, keep_weakly=True)
    volume = moocore.hypervolume(points, ref=reference, maximise=maximise)
    contributions = moocore.hv_contributions(points, ref=reference, maximise=maximise)
    return {
        "name": name,
        "points": points.tolist(),
        "reference": list(map(float, reference)),
        "directions": ["maximize" if m else "minimize" for m in maximise],
        "hypervolume": float(volume),
        "contributions": contributions.tolist(),
        "front": np.flatnonzero(front).tolist(),
    }


def main():
    rng = np.random.default_rng(20240229)
    cases = []
    for dimensions, count in ((2, 60), (3, 60), (4, 40)):
        minimise = [False] * dimensions
        reference = [1.1] * dimensions
        cases.append(case(f"sphere {dimensions}-D", sphere(rng, count, dimensions), reference, minimise))
        cases.append(case(f"simplex {dimensions}-D", simplex(rng, count, dimensions), reference, minimise))
        # Most points dominated, some beyond the reference.
        cloud = rng.uniform(0, 1.5, (count, dimensions))
        cases.append(case(f"cloud {dimensions}-D", cloud, reference, minimise))
        # Few distinct values: ties in single objectives and whole points that are equal.
        grid = rng.integers(0, 5, (count, dimensions)) / 4
        cases.append(case(f"grid {dimensions}-D", grid, reference, minimise))
        # Accuracy up, µs and bytes down: directions and scales of a real study.
        mixed = sphere(rng, count, dimensions) * np.array([0.5, 900.0, 3e6, 40.0])[:dimensions]
        mixed[:, 0] = 1 - mixed[:, 0]
        directions = [True] + [False] * (dimensions - 1)
        far = [0.3, 1000.0, 4e6, 50.0][:dimensions]
        cases.append(case(f"mixed {dimensions}-D", mixed, far, directions))
    document = {
        "provenance": f"make_goldens.py, moocore {moocore.__version__}, numpy {np.__version__}",
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_name("hypervolume.json")
    lines = ",\n".join("  " + json.dumps(one) for one in cases)
    path.write_text(
        '{\n "provenance": ' + json.dumps(document["provenance"]) + ',\n "cases": [\n' + lines + "\n ]\n}\n"
    )


if __name__ == "__main__":
    main()
