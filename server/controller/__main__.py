"""`python -m server.controller RUN_DIR`: the controller process, started by the supervisor."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import structlog
import uvicorn

from server import logs
from server.controller.api import application
from server.controller.audit import Auditor
from server.controller.feed import Feed, Journal
from server.controller.identities import Identities
from server.controller.loop import Controller
from server.controller.rates import Rates
from server.edge.process import EdgeClient
from server.errors import Unavailable
from server.identity.snapshot import Camera
from server.launch import Launch, edge_config
from server.nodes import listening
from server.prefork import python
from server.replicas.plan import Home
from server.store.migrate import migrate
from server.store.quotas import Defaults
from server.store.store import Store, connect
from server.vault.keys import sweep
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

log = structlog.get_logger(__name__)


async def main(launch: Launch) -> None:
    settings = launch.settings
    logs.configure("controller", settings.log_level)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    engine = connect(settings.database)
    try:
        migrate(engine)
    except Unavailable as error:
        log.error("cannot start", error=error.message)  # the supervisor tries again
        raise SystemExit(1) from None
    store = Store(engine, settings.account, settings.region)
    vault = Vault(engine, settings.master_keys)
    sweep(vault)
    camera = None
    if settings.authenticates:
        camera = Camera.of(settings, SecretBox(vault), engine, launch.token)
    home = Home(
        beat_url=launch.control_url,
        token=launch.token,
        bind_host=None if settings.spreads else settings.replica_host,
        nodes=launch.nodes,
        account=settings.account,
        region=settings.region,
        drain_timeout_s=settings.drain_timeout_s,
        log_level=settings.log_level,
        log_dir=str(settings.log_dir),
        cache_dir=str(settings.cache_dir),
        objects_dir=str(settings.objects),
        objects_url=settings.objects_url,
        database_url=settings.database,
        master_key_file=str(settings.master_keys),
        sampler=settings.sampler,
        python=str(python.script(settings.run_dir)) if settings.preforks else None,
        audit_data_share=settings.audit_data_share,
        encrypt=settings.encrypt,
        external_hosts=settings.external_hosts or "",
        quota_storage_mb=settings.quota_storage_mb,
    )
    controller = Controller(settings, store, EdgeClient(edge_config(settings)), home, launch.ray_address)
    auditor = Auditor(settings, store)
    rates = Rates(store, Defaults.of(settings))
    config = uvicorn.Config(
        application(controller, auditor, Identities(store, camera), rates, launch.token),
        host=settings.replica_host, port=launch.control_port, ws="none", lifespan="off",
        access_log=False, log_config=None, timeout_keep_alive=60, ssl_context_factory=listening(launch.nodes),
    )  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(controller.run())
        tasks.create_task(auditor.sweep_forever())
        tasks.create_task(uvicorn.Server(config).serve())
        tasks.create_task(Feed(store, (Journal(),)).run())


if __name__ == "__main__":
    asyncio.run(main(Launch.read(Path(sys.argv[1]))))
