"""Optuna's samplers, told the search space instead of inferring it from each past trial.

The first part of the text that search/optuna/bridge_process.cc runs (see bridge.py).
"""

import hashlib


class Missing(Exception):
    """A module that a sampler needs isn't installed."""


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

    NEEDS = {"qmc": ["scipy"], "gp": ["scipy", "torch"]}

    def __init__(self, optuna, options, seed, space, complete):
        self.kind = options["name"]
        for module in self.NEEDS.get(self.kind, []):
            try:
                __import__(module)
            except ImportError as error:
                raise Missing(f"{error}; expected {module} beside Optuna") from error
        if self.kind == "gp":
            import torch

            if not hasattr(torch.device, "__enter__"):  # Optuna uses devices as contexts
                raise Missing(f"torch {torch.__version__}; expected torch 2 or later beside Optuna")
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
