"""Networks of others that are known by a name here."""

HUB_NAMES: dict = {}
