"""Writes a study as a database that Optuna and its dashboard read.

The second part of the text that search/optuna/bridge_process.cc runs (see bridge.py).
"""

import os
import sqlite3
from datetime import datetime, timezone


def local_time(text):
    """RFC 3339 -> what Optuna keeps: local time without its zone. None where there is none."""
    if not text:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone().replace(tzinfo=None)


class Export:
    """An Optuna database that grows beside its name, and stands under it once it is whole."""

    def __init__(self, optuna, message):
        import sqlalchemy

        self.optuna = optuna
        self.path = message["path"]
        self.part = self.path + ".part"
        if os.path.exists(self.part):
            os.unlink(self.part)
        # Nobody reads it before it is whole, so that a commit needn't wait for the disk.
        # The path isn't part of the address, where some of its characters would mean something.
        storage = optuna.storages.RDBStorage(
            "sqlite:///",
            engine_kwargs={"creator": lambda: sqlite3.connect(self.part, timeout=60, check_same_thread=False)},
        )

        def unsafe(connection, _):
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")

        sqlalchemy.event.listen(storage.engine, "connect", unsafe)
        storage.engine.dispose()
        self.storage = storage
        self.study = optuna.create_study(
            storage=storage, study_name=message["study"], directions=message["directions"]
        )
        self.study.set_metric_names(message["metrics"])
        for key, value in message["attributes"].items():
            self.study.set_user_attr(key, value)
        self.space = {
            name: make_distribution(optuna, distribution) for name, distribution in message["space"]
        }
        self.count = 0

    def add(self, message):
        states = {
            "complete": self.optuna.trial.TrialState.COMPLETE,
            "pruned": self.optuna.trial.TrialState.PRUNED,
            "failed": self.optuna.trial.TrialState.FAIL,
            "running": self.optuna.trial.TrialState.RUNNING,
            "waiting": self.optuna.trial.TrialState.WAITING,
        }
        for told in message["trials"]:
            state = states[told["state"]]
            start = local_time(told["started_at"])
            end = local_time(told["finished_at"])
            trial = self.optuna.trial.FrozenTrial(
                number=-1,
                trial_id=-1,
                state=state,
                value=None,
                values=told["values"],
                # Optuna asks for these in these states; a trial that never ran has neither.
                datetime_start=start or (end if state.is_finished() else None),
                datetime_complete=end if state.is_finished() else None,
                params=told["params"],
                distributions={name: self.space[name] for name in told["params"]},
                user_attrs=told["attributes"],
                system_attrs={},
                intermediate_values={},
            )
            for name, value in told["constraints"].items():
                trial.set_constraint(name, value)
            self.study.add_trial(trial)
            self.count += 1

    def finish(self):
        self.storage.remove_session()
        self.storage.engine.dispose()
        os.replace(self.part, self.path)
        return {"trials": self.count}
