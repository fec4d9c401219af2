"""KMS for symmetric keys. Importing the modules registers every operation that is built."""

from server.control.kms import aliases, crypto, keys, lists, policies, rotation, tagging
from server.control.kms.service import KMS

__all__ = ["KMS", "aliases", "crypto", "keys", "lists", "policies", "rotation", "tagging"]
