"""Deploying and deleting are intent: they write, refuse what cannot be, and never wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.control import endpoints
from server.errors import BadRequest, Conflict, NotFound
from server.spec import EndpointSpec, VariantSpec
from server.store.migrate import migrate
from server.store.store import Store, connect


@pytest.fixture
def store(tmp_path: Path) -> Store:
    engine = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    migrate(engine)
    return Store(engine, "123456789012", "us-east-1")


def spec(model: str = "one") -> EndpointSpec:
    return EndpointSpec(name="ep", variants=(VariantSpec(model=model),))


def test_a_new_endpoint_is_creating_and_a_changed_one_updating(store: Store) -> None:
    made = endpoints.deploy(store, spec())
    assert made.status == "Creating"
    store.report(made, "InService")
    assert endpoints.deploy(store, spec()).status == "InService"
    changed = endpoints.deploy(store, spec("two"))
    assert (changed.status, changed.generation) == ("Updating", made.generation + 1)


def test_a_failed_endpoint_is_tried_again_by_the_same_document(store: Store) -> None:
    store.report(endpoints.deploy(store, spec()), "Failed", "no such model")
    again = endpoints.deploy(store, spec())
    assert (again.status, again.reason) == ("Updating", None)


def test_an_endpoint_being_deleted_is_left_alone(store: Store) -> None:
    endpoints.deploy(store, spec())
    first = endpoints.delete(store, "ep")
    assert endpoints.delete(store, "ep") == first
    with pytest.raises(Conflict, match="being deleted"):
        endpoints.deploy(store, spec())


def test_deleting_what_is_not_there_is_an_error(store: Store) -> None:
    with pytest.raises(NotFound):
        endpoints.delete(store, "ep")


def test_components_are_not_put_on_an_endpoint_by_its_document(store: Store) -> None:
    variant = VariantSpec(model="one", component="base")
    with pytest.raises(BadRequest, match="CreateInferenceComponent"):
        endpoints.deploy(store, EndpointSpec(name="ep", variants=(variant,)))
