"""Settings: one frozen model from the environment (`CALLSTREAM_…`), `callstream.toml` and defaults."""

from callstream.settings.errors import SettingsError
from callstream.settings.explain import Setting
from callstream.settings.model import Settings, check_secrets, load, origins

__all__ = ["Setting", "Settings", "SettingsError", "check_secrets", "load", "origins"]
