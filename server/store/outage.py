"""A database that is not there, or that another writer holds: one error, safe to retry, whoever uses the engine."""

from __future__ import annotations

from sqlalchemy import Engine, event, exc
from sqlalchemy.engine import ExceptionContext

from server.errors import Unavailable


def name_outages(engine: Engine) -> None:
    """Has a lost, refused or locked connection raise Unavailable. Faults of a statement itself stay as they are."""
    event.listen(engine, "handle_error", _named)


def _named(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if context.is_pre_ping:  # the pool then connects anew
        return
    if context.is_disconnect or isinstance(error, exc.OperationalError | exc.InterfaceError):
        raise Unavailable(f"The store does not answer: {_words(context.original_exception)}. Try again.")


def _words(error: BaseException) -> str:
    """The driver's first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
