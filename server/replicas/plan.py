"""What a replica is told when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from server.nodes import NodeIdentity
from server.objects.opening import open_storage
from server.objects.storage import Storage
from server.settings import Settings
from server.spec import VariantSpec


@dataclass(frozen=True, slots=True)
class Home:
    """Where a replica belongs: who it reports to and how it is reached."""

    beat_url: str
    """The controller's own listener, e.g. ``http://127.0.0.1:40123``."""
    token: str
    bind_host: str | None
    """Address that replicas listen at; None: each at its node's own, as Ray knows it."""
    account: str
    region: str
    drain_timeout_s: float
    log_level: str
    log_dir: str
    """Folder for the replica's own log; on a node without it, the log stays with Ray's."""
    sampler: bool
    """Whether engines draw tokens with Hearth's kernels, unless the variant's `env` says otherwise."""
    cache_dir: str
    """Folder for unpacked models and the environments that their code asks for; made where it is missing."""
    objects_dir: str
    """Folder of the object store."""
    objects_url: str | None
    """The S3 that keeps the objects in place of that folder."""
    database_url: str = field(repr=False)
    """Where the keys are that objects are encrypted under."""
    master_key_file: str
    """The master keys that open those."""
    python: str | None = None
    """What stands in for Python where replicas and engines may be forked (`server.prefork`); None: they are not."""
    tenant: str = ""
    """The account again, where it is not this Hearth's own: replicas report under it."""
    audit_data_share: float = 0.0
    """Share of the calls that the audit log is to have."""
    encrypt: bool = True
    """Whether what replicas write into the object store is encrypted even where nobody asks for it."""
    external_hosts: str = ""
    """Hosts that replicas of external models may call, with commas between."""
    quota_storage_mb: float | None = None
    """Of an account that has no quota of its own."""
    nodes: NodeIdentity | None = None
    """What replicas show the edge and the controller, and verify them with; None: they talk plainly."""

    def storage(self) -> Storage:
        """Opens the object store of the endpoint's account. Who calls it closes it."""
        named = Settings(
            objects_dir=Path(self.objects_dir), objects_url=self.objects_url, account=self.account, region=self.region,
            database_url=self.database_url, master_key_file=Path(self.master_key_file), encrypt=self.encrypt,
            quota_storage_mb=self.quota_storage_mb,
        )  # fmt: skip
        return open_storage(named, serves=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """One replica's endpoint, variant and home."""

    endpoint: str
    variant: VariantSpec
    home: Home
