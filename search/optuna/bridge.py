"""Optuna behind JSON lines: the Python half of kerf's Optuna samplers.

Runs inside a child of kerf (search/optuna/bridge_process.cc), which embeds this text. Reads one
JSON object a line from descriptor 0 and answers each with one: {"ok": true, ...} or {"ok": false,
"kind": "missing" | "internal", "error": "..."}. Descriptor 0 is a socket that answers go back on;
where it is a pipe or a terminal, they go to descriptor 1.

Messages (protocol 1):
  hello    {}                                     -> {protocol, optuna, python}
  create   {sampler, dimensions: [{choices, ordered}], directions, seed, anchors} -> {}
  tell     {trials: [{choices, state, values, constraints}], pending: [[index, ...], ...]} -> {}
           Adds finished trials in order, and says which points wait or run now (all of them).
  ask      {attempt}                              -> {choices}
  ping     {}                                     -> {}
  shutdown {}                                     -> {}, then the process ends

Every answer to ask is a function of what was created and told and of the attempt, never of what was
asked before: the process can be rebuilt at any time by telling the finished trials again. Hence a
sampler is made for each ask, seeded by the number of known trials; the study holds the finished
trials in the order of their tells, then the pending ones, and nothing that was only asked for; and
the generation of NSGA is the position of a complete trial divided by the population.
"""

import sys

sys.path = [entry for entry in sys.path if entry]  # modules never come from the working folder

import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from datetime import datetime  # noqa: E402

PROTOCOL = 1
HUGE = 1e60  # larger values would overflow where Optuna multiplies objectives
# Of NSGA. Studies have hundreds of trials, not thousands: in bench_search_quality 12 finds more than
# 16, 24 and Optuna's own 50 after 20, 50 and 100 trials, and as much or more after 200.
POPULATION = 12


def load_optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")
    return optuna


def derived_seed(*words):
    digest = hashlib.sha256(":".join(str(word) for word in words).encode()).digest()
    return int.from_bytes(digest[:4], "little")


class Missing(Exception):
    """A module that a sampler needs isn't installed."""


def make_samplers(optuna, space, order):
    """Optuna's samplers, told the search space instead of inferring it from each past trial."""

    class Tpe(optuna.samplers.TPESampler):
        def infer_relative_search_space(self, study, trial):
            return space

    class Generations:
        """Generations by position: what is complete in the order of tells, by the dozen."""

        def infer_relative_search_space(self, study, trial):
            return space

        def get_trial_generation(self, study, trial):
            return len(order) // POPULATION

        def get_population(self, study, generation):
            return order[generation * POPULATION : (generation + 1) * POPULATION]

    class Nsga2(Generations, optuna.samplers.NSGAIISampler):
        pass

    class Nsga3(Generations, optuna.samplers.NSGAIIISampler):
        pass

    class Qmc(optuna.samplers.QMCSampler):
        sample_id = 0

        def infer_relative_search_space(self, study, trial):
            return space

        def _find_sample_id(self, study, search_space):
            return self.sample_id

    class Gp(optuna.samplers.GPSampler):
        def infer_relative_search_space(self, study, trial):
            return space

    return {"tpe": Tpe, "nsga2": Nsga2, "nsga3": Nsga3, "qmc": Qmc, "gp": Gp}


NEEDS = {"qmc": ["scipy"], "gp": ["scipy", "torch"]}


def make_ledger(optuna):
    class Ledger(optuna.storages.InMemoryStorage):
        """Trials that can be taken back: a study of what is known, not of what was asked."""

        def replace_tail(self, study_id, keep, tail):
            trials = self._studies[study_id].trials
            for trial in trials[keep:]:
                del self._trial_id_to_study_id_and_number[trial._trial_id]
            del trials[keep:]
            for trial in tail:
                trial.number = trial._trial_id = len(trials)
                self._trial_id_to_study_id_and_number[trial._trial_id] = (study_id, trial.number)
                trials.append(trial)
            self._max_trial_id = len(trials) - 1

    return Ledger()


class Bridge:
    def __init__(self, optuna, message):
        self.optuna = optuna
        self.kind = message["sampler"]
        for module in NEEDS.get(self.kind, []):
            try:
                __import__(module)
            except ImportError as error:
                raise Missing(f"{error}; expected {module} beside Optuna") from error
        self.seed = message["seed"]
        self.space = {}
        for index, dimension in enumerate(message["dimensions"]):
            count = dimension["choices"]
            if dimension["ordered"] and count > 2:
                distribution = optuna.distributions.IntDistribution(0, count - 1)
            else:
                distribution = optuna.distributions.CategoricalDistribution(range(count))
            self.space[f"{index:06d}"] = distribution
        self.ledger = make_ledger(optuna)
        self.study = optuna.create_study(storage=self.ledger, directions=message["directions"])
        self.anchors = message["anchors"]
        self.finished = 0
        self.pending = []
        self.complete = []  # FrozenTrials, in the order of tells
        self.samplers = make_samplers(optuna, self.space, self.complete)

    def frozen(self, choices, state, values=None, constraints=()):
        now = datetime.now()
        trial = self.optuna.trial.FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params=dict(zip(self.space, choices)),
            distributions=self.space,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for index, constraint in enumerate(constraints):
            trial.set_constraint(str(index), max(-HUGE, min(HUGE, constraint)))
        return trial

    def tell(self, message):
        states = self.optuna.trial.TrialState
        added = []
        for told in message["trials"]:
            if told["state"] == "complete":
                values = [max(-HUGE, min(HUGE, value)) for value in told["values"]]
                trial = self.frozen(told["choices"], states.COMPLETE, values, told["constraints"])
            else:
                trial = self.frozen(told["choices"], states.PRUNED)
            added.append(trial)
        self.ledger.replace_tail(self.study._study_id, self.finished, added)
        self.finished += len(added)
        for trial in added:
            if trial.state == states.COMPLETE:
                self.complete.append(trial)
                if self.kind.startswith("nsga") and len(self.complete) % POPULATION == 0:
                    self.select_parents(len(self.complete) // POPULATION)
        self.pending = message["pending"]
        self.restore_pending()

    def restore_pending(self):
        running = self.optuna.trial.TrialState.RUNNING
        tail = [self.frozen(choices, running) for choices in self.pending]
        self.ledger.replace_tail(self.study._study_id, self.finished, tail)

    def select_parents(self, generation):
        # At once and with a seed of its own: NSGA-III draws lots here, and the study keeps the result.
        sampler = self.sampler(derived_seed(self.seed, "parents", generation))
        sampler.get_parent_population(self.study, generation)

    def sampler(self, seed):
        make = self.samplers[self.kind]
        if self.kind == "tpe":
            return make(
                seed=seed,
                multivariate=True,
                constant_liar=True,
                n_startup_trials=self.anchors + 10,
            )
        if self.kind in ("nsga2", "nsga3"):
            return make(seed=seed, population_size=POPULATION)
        if self.kind == "qmc":
            return make(seed=derived_seed(self.seed), scramble=True)
        return make(seed=seed, deterministic_objective=False)

    def ask(self, message):
        known = self.finished + len(self.pending)
        attempt = message["attempt"]
        sampler = self.sampler(derived_seed(self.seed, known, attempt))
        if self.kind == "qmc":
            sampler.sample_id = max(0, known - self.anchors) + attempt
        self.study.sampler = sampler
        trial = self.study.ask(self.space)
        choices = [int(trial.params[name]) for name in self.space]
        self.ledger.replace_tail(self.study._study_id, self.finished + len(self.pending), [])
        return {"choices": choices}


def serve(read_line, write_line):
    try:
        optuna = load_optuna()
        trouble = None
    except Exception as error:  # an installation can be broken in any way
        optuna = None
        trouble = f"{type(error).__name__}: {error}"
    bridge = None
    while True:
        line = read_line()
        if not line:
            return
        try:
            message = json.loads(line)
            kind = message["type"]
            answer = {}
            if optuna is None:
                raise Missing(f"can't import optuna: {trouble}")
            if kind == "hello":
                answer = {
                    "protocol": PROTOCOL,
                    "optuna": optuna.__version__,
                    "python": sys.version.split()[0],
                }
            elif kind == "create":
                bridge = Bridge(optuna, message)
            elif kind == "tell":
                bridge.tell(message)
            elif kind == "ask":
                answer = bridge.ask(message)
            elif kind not in ("ping", "shutdown"):
                raise ValueError(f"unknown message {kind!r}")
            answer["ok"] = True
        except Missing as error:
            kind = "missing"
            answer = {"ok": False, "kind": "missing", "error": str(error)}
        except Exception as error:  # answered, so that the other side can say what happened
            kind = "error"
            traceback.print_exc(file=sys.stderr)
            answer = {
                "ok": False,
                "kind": "internal",
                "error": f"{type(error).__name__}: {error}",
            }
        write_line(json.dumps(answer, allow_nan=False))
        if kind == "shutdown":
            return


def main():
    out = 0 if stat.S_ISSOCK(os.fstat(0).st_mode) else 1
    source = os.fdopen(0, "rb", closefd=False)

    def write_line(text):
        data = memoryview(text.encode() + b"\n")
        while data:
            data = data[os.write(out, data) :]

    try:
        serve(source.readline, write_line)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the other side is gone, and so are we


main()
