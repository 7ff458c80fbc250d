"""Optuna's samplers, told the search space instead of inferring it from each past trial.

The first part of the text that search/optuna/bridge_process.cc runs (see bridge.py).
"""

import contextlib
import hashlib
import sys


class Missing(Exception):
    """A module that a sampler needs isn't installed."""


NEEDS = {"qmc": ["scipy"], "gp": ["scipy", "torch"]}


def check_modules(kind):
    """Imports what a sampler needs beyond Optuna; says all that is missing at once."""
    missing = {}
    for module in NEEDS.get(kind, []):
        try:
            __import__(module)
        except Exception as error:  # an installation can be broken in any way
            missing[module] = error
    if missing:
        causes = ", ".join(str(error) for error in missing.values())
        raise Missing(
            f"sampler optuna-{kind} needs {' and '.join(NEEDS[kind])} beside Optuna: {causes} "
            f"(\"{sys.executable} -m pip install {' '.join(missing)}\", or KERF_PYTHON names another Python)"
        )
    if kind == "gp":
        make_torch_fit()


def make_torch_fit():
    import numpy
    import optuna.samplers._gp.sampler as module
    import torch

    try:
        torch.from_numpy(numpy.zeros(1))
    except RuntimeError as error:  # built for NumPy 1, found beside NumPy 2
        raise Missing(
            f"torch {torch.__version__} can't be used with numpy {numpy.__version__} ({error}); expected a numpy "
            f"that it was built for (\"{sys.executable} -m pip install 'numpy<2'\", or a newer torch)"
        ) from error
    if hasattr(torch.device, "__enter__"):
        return

    # Before torch 2 (Debian 12 has 1.13) a device is no context. Optuna uses it as one in this module,
    # where the CPU is asked for that is the default anyway.
    class OlderTorch:
        def __getattr__(self, name):
            return getattr(torch, name)

        def device(self, _name):
            return contextlib.nullcontext()

    module.torch = OlderTorch()


def derived_seed(*words):
    digest = hashlib.sha256(":".join(str(word) for word in words).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def make_distribution(optuna, message):
    kind = message["type"]
    if kind == "int":
        return optuna.distributions.IntDistribution(
            message["low"], message["high"], log=message["log"], step=message["step"]
        )
    if kind == "float":
        return optuna.distributions.FloatDistribution(
            message["low"], message["high"], log=message["log"], step=message["step"]
        )
    return optuna.distributions.CategoricalDistribution(message["choices"])


class Samplers:
    """Makes the sampler of an ask: one that is told how much is known, and nothing else.

    `study` has the study's seed, space, and complete trials in the order of their tells.
    """

    def __init__(self, optuna, options, seed, space, complete):
        self.kind = options["name"]
        check_modules(self.kind)
        self.options = options
        self.seed = seed
        self.population = options.get("population_size", 0)
        samplers = optuna.samplers
        population = self.population

        class Tpe(samplers.TPESampler):
            def infer_relative_search_space(self, study, trial):
                return space

        class Generations:
            """Generations by position: complete trials in the order of tells, a population each."""

            def infer_relative_search_space(self, study, trial):
                return space

            def get_trial_generation(self, study, trial):
                return len(complete) // population

            def get_population(self, study, generation):
                return complete[generation * population : (generation + 1) * population]

        class Nsga2(Generations, samplers.NSGAIISampler):
            pass

        class Nsga3(Generations, samplers.NSGAIIISampler):
            pass

        class Qmc(samplers.QMCSampler):
            sample_id = 0

            def infer_relative_search_space(self, study, trial):
                return space

            def _find_sample_id(self, study, search_space):
                return self.sample_id

        class Gp(samplers.GPSampler):
            def infer_relative_search_space(self, study, trial):
                return space

        self.classes = {
            "tpe": Tpe,
            "nsga2": Nsga2,
            "nsga3": Nsga3,
            "qmc": Qmc,
            "gp": Gp,
            "bruteforce": samplers.BruteForceSampler,
            "random": samplers.RandomSampler,
        }
        if self.kind not in self.classes:
            known = ", ".join(self.classes)
            raise ValueError(f"unknown sampler {self.kind!r}; expected one of {known}")

    def make(self, seed, known, attempt):
        make = self.classes[self.kind]
        options = self.options
        if self.kind == "tpe":
            return make(
                seed=seed,
                multivariate=options["multivariate"],
                constant_liar=options["constant_liar"],
                n_startup_trials=options["n_startup_trials"],
            )
        if self.kind in ("nsga2", "nsga3"):
            return make(seed=seed, population_size=self.population)
        if self.kind == "qmc":
            sampler = make(seed=derived_seed(self.seed), scramble=options["scramble"])
            sampler.sample_id = max(0, known - options["skip"]) + attempt
            return sampler
        if self.kind == "gp":
            return make(
                seed=seed,
                deterministic_objective=options["deterministic_objective"],
                n_startup_trials=options["n_startup_trials"],
            )
        return make(seed=seed)
