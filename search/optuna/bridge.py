"""Optuna behind JSON lines: the Python half of search/optuna.

Runs inside a child of kerf (search/optuna/bridge_process.cc). The build puts samplers.py, export.py
and this file together into one text. Reads one JSON object a line from descriptor 0 and answers each
with one: {"ok": true, ...} or {"ok": false, "kind": "missing" | "version" | "internal", "error":
"..."}. Descriptor 0 is a socket that answers go back on; where it is a pipe or a terminal, they go to
descriptor 1.

Messages (protocol 2; every message says {"protocol": 2}, another number is refused):
  hello    {}                                     -> {protocol, optuna, python}
  create   {sampler: {name, ...}, space: [[name, distribution], ...], directions, seed} -> {}
  tell     {trials: [{params, state, values, constraints}], running: [params, ...]} -> {}
           Adds finished trials in order, and says which points wait or run now (all of them).
  ask      {count, attempt, answered: [{params, state, values, constraints}]} -> {params: [params, ...]}
           The first with this attempt, each next one as if those before it were running.
           `answered`: what was proposed in earlier attempts and is known already; known for this
           question only.
  export   {path, study, directions, metrics, space, attributes} -> {}
  export_trials {trials: [{state, params, values, constraints, attributes, started_at, finished_at}]}
  export_end    {}                                -> {trials: their number}
  ping     {}                                     -> {}
  shutdown {}                                     -> {}, then the process ends
A distribution is {type: "int" | "float", low, high, step, log} or {type: "categorical", choices};
params are one value a name, in the space's order: a number, or the index of a choice. In an export
they are {name: value}.

Every answer to ask is a function of what was created and told and of the question, never of what was
asked before: the process can be rebuilt at any time by telling the finished trials again. Hence a
sampler is made for each ask, seeded by the number of known trials; the study holds the finished
trials in the order of their tells, then the running ones, and nothing that was only asked for; and
the generation of NSGA is the position of a complete trial divided by the population.
"""

import json
import stat
import sys
import traceback
import warnings

PROTOCOL = 2
OPTUNA = 5  # its major version: samplers.py and the ledger rest on parts that others don't promise
HUGE = 1e60  # larger values would overflow where Optuna multiplies objectives


def load_optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore")
    return optuna


class WrongVersion(Exception):
    pass


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
        self.seed = message["seed"]
        self.space = {name: make_distribution(optuna, d) for name, d in message["space"]}
        self.choices = [getattr(d, "choices", None) for d in self.space.values()]
        self.ledger = make_ledger(optuna)
        self.study = optuna.create_study(storage=self.ledger, directions=message["directions"])
        self.finished = 0
        self.running = []
        self.complete = []  # FrozenTrials, in the order of tells
        self.samplers = Samplers(optuna, message["sampler"], self.seed, self.space, self.complete)

    def values_of(self, params):
        """Values from what is sent: choices travel as their indices."""
        return [c[p] if c is not None else p for c, p in zip(self.choices, params, strict=True)]

    def sent(self, values):
        out = []
        for choices, distribution, value in zip(self.choices, self.space.values(), values):
            out.append(value if choices is None else int(distribution.to_internal_repr(value)))
        return out

    def frozen(self, params, state, values=None, constraints=()):
        now = datetime.now()
        trial = self.optuna.trial.FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params=dict(zip(self.space, self.values_of(params))),
            distributions=self.space,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for index, constraint in enumerate(constraints):
            trial.set_constraint(str(index), max(-HUGE, min(HUGE, constraint)))
        return trial

    def told(self, message):
        states = self.optuna.trial.TrialState
        if message["state"] == "complete":
            values = [max(-HUGE, min(HUGE, value)) for value in message["values"]]
            return self.frozen(message["params"], states.COMPLETE, values, message["constraints"])
        return self.frozen(
            message["params"], states.PRUNED if message["state"] == "pruned" else states.FAIL
        )

    def tell(self, message):
        added = [self.told(trial) for trial in message["trials"]]
        self.ledger.replace_tail(self.study._study_id, self.finished, added)
        self.finished += len(added)
        for trial in added:
            if trial.state == self.optuna.trial.TrialState.COMPLETE:
                self.complete.append(trial)
                population = self.samplers.population
                if population and len(self.complete) % population == 0:
                    self.select_parents(len(self.complete) // population)
        self.running = message["running"]
        self.set_tail(self.running)

    def set_tail(self, running, answered=()):
        state = self.optuna.trial.TrialState.RUNNING
        tail = [self.told(trial) for trial in answered]
        tail += [self.frozen(params, state) for params in running]
        self.ledger.replace_tail(self.study._study_id, self.finished, tail)

    def select_parents(self, generation):
        # At once and with a seed of its own: NSGA-III draws lots here, and the study keeps the result.
        sampler = self.samplers.make(derived_seed(self.seed, "parents", generation), 0, 0)
        sampler.get_parent_population(self.study, generation)

    def ask(self, message):
        proposed = []
        answered = message["answered"]
        for i in range(message["count"]):
            attempt = message["attempt"] if i == 0 else 0
            if i == 1:
                answered = []
            if answered or proposed:
                self.set_tail(self.running + proposed, answered)
            known = self.finished + len(self.running) + len(proposed)
            seed = derived_seed(self.seed, known, attempt)
            self.study.sampler = self.samplers.make(seed, known, attempt)
            trial = self.study.ask(self.space)
            proposed.append(self.sent([trial.params[name] for name in self.space]))
            # What was only asked for leaves the ledger again.
            self.ledger.replace_tail(
                self.study._study_id,
                self.finished + len(answered) + len(self.running) + len(proposed) - 1,
                [],
            )
        if answered or len(proposed) > 1:
            self.set_tail(self.running)
        return {"params": proposed}


class Server:
    def __init__(self):
        self.trouble = None
        try:
            self.optuna = load_optuna()
            if self.optuna.__version__.split(".")[0] != str(OPTUNA):
                self.trouble = f"optuna {self.optuna.__version__}; expected {OPTUNA}"
        except Exception as error:  # an installation can be broken in any way
            self.trouble = f"can't import optuna: {type(error).__name__}: {error}"
        self.bridge = None
        self.export = None

    def answer(self, message):
        kind = message["type"]
        if message.get("protocol") != PROTOCOL:
            raise WrongVersion(
                f"a message of protocol {message.get('protocol')!r}; expected {PROTOCOL}"
            )
        if self.trouble:
            raise Missing(self.trouble)
        if kind == "hello":
            return {
                "protocol": PROTOCOL,
                "optuna": self.optuna.__version__,
                "python": sys.version.split()[0],
            }
        if kind == "create":
            self.bridge = Bridge(self.optuna, message)
        elif kind == "tell":
            self.bridge.tell(message)
        elif kind == "ask":
            return self.bridge.ask(message)
        elif kind == "export":
            self.export = Export(self.optuna, message)
        elif kind == "export_trials":
            self.export.add(message)
        elif kind == "export_end":
            return self.export.finish()
        elif kind not in ("ping", "shutdown"):
            raise ValueError(f"unknown message {kind!r}")
        return {}


def serve(read_line, write_line):
    server = Server()
    while True:
        line = read_line()
        if not line:
            return
        kind = "error"
        try:
            message = json.loads(line)
            answer = server.answer(message)
            answer["ok"] = True
            kind = message["type"]
        except Missing as error:
            answer = {"ok": False, "kind": "missing", "error": str(error)}
        except WrongVersion as error:
            answer = {"ok": False, "kind": "version", "error": str(error)}
        except Exception as error:  # answered, so that the other side can say what happened
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
