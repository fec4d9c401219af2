"""The seam to Ray: connecting, and the four things the controller asks of Ray Serve."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import ray
import structlog
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from server.controller.decide import App, AppStatus
from server.replicas.build import application
from server.replicas.names import AppName
from server.replicas.plan import Home
from server.spec import EndpointSpec, VariantSpec

log = structlog.get_logger(__name__)

NAMESPACE = "hearth"

_STATUS: Mapping[ApplicationStatus, AppStatus] = {
    ApplicationStatus.NOT_STARTED: "deploying",
    ApplicationStatus.DEPLOYING: "deploying",
    ApplicationStatus.RUNNING: "running",
    ApplicationStatus.DEPLOY_FAILED: "failed",
    ApplicationStatus.DELETING: "deleting",
    ApplicationStatus.UNHEALTHY: "unhealthy",
}


class Cluster:
    """Ray Serve on one Ray cluster. All methods block; call them off the event loop."""

    def __init__(self, address: str) -> None:
        ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING,
            configure_logging=False,
        )  # fmt: skip
        serve.start(proxy_location="Disabled")
        self._waking: dict[AppName, object] = {}
        self._handles: dict[AppName, DeploymentHandle] = {}

    def deploy(self, spec: EndpointSpec, variant: VariantSpec, home: Home, name: AppName) -> None:
        """Hands the application to Ray Serve and returns; the same revision again only rescales it."""
        serve.run_many(
            [serve.RunTarget(application(spec, variant, home), name=str(name), route_prefix=None)],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def delete(self, name: AppName) -> None:
        self._handles.pop(name, None)
        serve.delete(str(name), _blocking=False)

    def apps(self) -> dict[AppName, App]:
        """Every application of ours."""
        found = {}
        for text, overview in serve.status().applications.items():
            if name := AppName.parse(text):
                replicas = sum(sum(d.replica_states.values()) for d in overview.deployments.values())
                found[name] = App(_STATUS[overview.status], _message(overview), replicas)
        return found

    def wake(self, name: AppName) -> None:
        """Has a sleeping application start a replica; one call is under way per application at most."""
        pending = self._waking.get(name)
        if pending is None or _done(pending):
            # The same handle again: a new one first has to ask Serve's controller what it is for.
            try:
                if name not in self._handles:
                    self._handles[name] = serve.get_app_handle(str(name))
            except RayServeException as error:
                log.info("nothing to wake", app=str(name), why=str(error))  # it has gone since the last look
                return
            self._waking[name] = self._handles[name].wake.remote()


def _message(overview: object) -> str:
    parts = [overview.message, *(d.message for d in overview.deployments.values())]  # type: ignore[attr-defined]
    return "\n".join(part for part in parts if part)


def _done(response: object) -> bool:
    try:
        response.result(timeout_s=0)  # type: ignore[attr-defined]
    except TimeoutError:
        return False
    except Exception as error:
        # Whatever it failed of, it is over: a request that still waits makes the next call.
        log.warning("wake-up failed", error=f"{type(error).__name__}: {error}"[:500])
    return True
