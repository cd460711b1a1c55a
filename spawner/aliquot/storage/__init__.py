"""The ledger on disk: tables, migrations, and one store."""

from aliquot.storage.errors import Fault, LedgerUnavailable
from aliquot.storage.store import Store
from aliquot.storage.values import Event, Ledger, Reservation

__all__ = ["Event", "Fault", "Ledger", "LedgerUnavailable", "Reservation", "Store"]
