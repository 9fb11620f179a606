"""State on disk that survives a kill at any instant."""

from grapevine_agent.store.database import MetricsEntry, StoredRecord
from grapevine_agent.store.models import StoredModel
from grapevine_agent.store.room import Contents, Tenants
from grapevine_agent.store.store import Store

__all__ = ["Contents", "MetricsEntry", "Store", "StoredModel", "StoredRecord", "Tenants"]
