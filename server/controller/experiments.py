"""Makes inference experiments true: brings each from one state to the next.

Level-triggered: a look sees the experiment's row and its endpoint's, and takes at most one step. A step that changes
the endpoint is one transaction with the note that it was taken, so that a controller that is killed goes on where it
was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.control import experiments
from server.control.experiments import ENDED, KIND, OPEN, STOP, names
from server.control.instances import Machine
from server.control.operations import Context
from server.control.resources.endpoint import updated
from server.controller.tenants import living
from server.errors import BadRequest, Conflict, InUse, LimitExceeded, NotFound, Unavailable
from server.spec import EndpointSpec
from server.store.quotas import Defaults
from server.store.store import Resource, Store

log = structlog.get_logger(__name__)

LOOK_S = 1.0
SETTLED = ("InService", "Failed", "UpdateRollbackFailed")


class Experiments:
    """Looks after the experiments of all accounts and regions."""

    def __init__(
        self, store: Store, machine: Machine, clock: Callable[[], float] = time.time, limits: Defaults | None = None
    ) -> None:
        """`limits`: of accounts' quotas."""
        self._limits = limits or Defaults()
        self._store = store
        self._machine = machine
        self._clock = clock

    async def watch_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("inference experiments not looked at", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Looks at every experiment that is not over, once."""
        for experiment in [each for each in living(self._store, KIND)[1] if each.status in OPEN]:
            store = self._store.of(experiment.account).within(experiment.region)
            with contextlib.suppress(Conflict, NotFound):  # changed or gone meanwhile: the next look sees it as it is
                self._see(store, experiment)

    def _see(self, store: Store, experiment: Resource) -> None:
        status, document = experiment.status, experiment.document
        if status == "Creating":
            _report(store, experiment, "Created")
        elif status == "Created":
            if self._clock() >= document["Schedule"]["StartTime"]:
                _report(store, experiment, "Starting")
        elif status == "Updating" and document["resumes"] == "Created":
            _report(store, experiment, "Created")
        elif status == "Running":
            self._watch(store, experiment)
        else:
            self._bring(store, experiment)

    def _watch(self, store: Store, experiment: Resource) -> None:
        """A running experiment ends when its time is over, or when somebody takes its shadow away."""
        endpoint = _endpoint(store, experiment)
        if endpoint is None:
            self._end(store, experiment, "Cancelled", "the endpoint was deleted")
        elif endpoint.status in SETTLED and _config(endpoint) != _noted(experiment).get("config"):
            self._end(store, experiment, "Cancelled", f"the endpoint was updated to {_config(endpoint)}")
        elif self._clock() >= experiment.document["Schedule"]["EndTime"]:
            document = {**experiment.document, STOP: experiments.at_its_end(experiment.document)}
            store.replace(experiment, document, "Stopping")

    def _bring(self, store: Store, experiment: Resource) -> None:
        """Starting, Updating or Stopping: has the endpoint become what it is to be?"""
        endpoint, noted = _endpoint(store, experiment), _noted(experiment)
        if endpoint is None:
            self._end(store, experiment, "Cancelled", "the endpoint was deleted")
        elif experiment.status == "Stopping" and "config" not in noted:
            self._end(store, experiment, experiment.document[STOP]["state"], None)  # it never started
        elif noted.get("generation") != experiment.generation:
            if endpoint.status in SETTLED:
                self._ask(store, experiment, endpoint)
        elif endpoint.status in SETTLED:
            self._arrived(store, experiment, endpoint)

    def _ask(self, store: Store, experiment: Resource, endpoint: Resource) -> None:
        """Asks the endpoint for the configuration that the experiment wants now."""
        noted = _noted(experiment)
        if endpoint.status != "InService":
            self._end(store, experiment, "Cancelled", f"the endpoint is {endpoint.status}")
            return
        if "config" in noted and _config(endpoint) != noted["config"]:
            self._end(store, experiment, "Cancelled", f"the endpoint was updated to {_config(endpoint)}")
            return
        try:
            with store.transaction() as together:
                name = self._update(self._context(together), experiment, endpoint)
                together.observe(experiment, {**noted, "config": name, "generation": experiment.generation})
        except (BadRequest, InUse, LimitExceeded) as error:
            log.warning("experiment not brought about", experiment=experiment.name, error=error.message)
            self._end(store, experiment, "Cancelled", error.message)

    def _context(self, store: Store) -> Context:
        return Context(store, self._machine, quotas=self._limits)

    def _update(self, context: Context, experiment: Resource, endpoint: Resource) -> str:
        """The name of the endpoint configuration that the endpoint was asked for, or has already."""
        spec = EndpointSpec.model_validate(endpoint.document)
        document = experiment.document
        if experiment.status == "Stopping":
            wanted = experiments.stopped(context, document, spec)
        else:
            if experiment.status == "Starting":
                experiments.check_endpoint(context, document, experiment.name)
            wanted = experiments.started(context, document, spec)
        if wanted == experiments.config_of(context, spec):
            return str(_config(endpoint))
        name = f"{experiment.name[:32]}-{experiment.id}-{experiment.generation}"
        context.store.create("EndpointConfig", name, {**wanted, "EndpointConfigName": name}, "Active")
        updated(context, endpoint, {"EndpointName": endpoint.name, "EndpointConfigName": name})
        log.info("experiment", experiment=experiment.name, status=experiment.status, configuration=name)
        return name

    def _arrived(self, store: Store, experiment: Resource, endpoint: Resource) -> None:
        there = endpoint.status == "InService" and _config(endpoint) == _noted(experiment)["config"]
        why = None if there else endpoint.reason or f"the endpoint is {endpoint.status} with {_config(endpoint)}"
        if experiment.status == "Stopping":
            stop = experiment.document[STOP]
            self._end(store, experiment, stop["state"] if there else "Cancelled", why)
        elif there:
            _report(store, experiment, "Running")
        elif experiment.status == "Updating" and _has_shadow(endpoint, experiment) and endpoint.status == "InService":
            with store.transaction() as together:  # it went back to what it was, and so does the experiment
                together.observe(experiment, {**_noted(experiment), "config": _config(endpoint)})
                _report(together, experiment, "Running", why)
        else:
            self._end(store, experiment, "Cancelled", why)

    def _end(self, store: Store, experiment: Resource, status: str, why: str | None) -> None:
        assert status in ENDED
        with store.transaction() as together:
            together.observe(experiment, {**_noted(experiment), "completed_at": self._clock()})
            _report(together, experiment, status, why)


def _report(store: Store, experiment: Resource, status: str, why: str | None = None) -> None:
    log.info("experiment", experiment=experiment.name, was=experiment.status, now=status, reason=why)
    if not store.report(experiment, status, why):
        raise Conflict(f"{experiment.name} was changed meanwhile.")


def _endpoint(store: Store, experiment: Resource) -> Resource | None:
    """None: it is gone, or goes."""
    try:
        found = store.get("Endpoint", experiment.document["EndpointName"])
    except NotFound:
        return None
    return None if found.status == "Deleting" else found


def _noted(experiment: Resource) -> Mapping[str, Any]:
    return experiment.observation or {}


def _config(endpoint: Resource) -> Any:
    return endpoint.document.get("sagemaker", {}).get("EndpointConfigName")


def _has_shadow(endpoint: Resource, experiment: Resource) -> bool:
    _, shadow = names(experiment.document)
    return any(each["name"] == shadow for each in endpoint.document.get("shadows", ()))
