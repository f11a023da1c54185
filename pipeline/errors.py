"""Errors a user can act on: each says what failed, the offending value, and what to do.

TradewindError                exit 1   anything below
├── UsageError                exit 2   the command line is wrong
│   └── ConfigError           exit 2   the configuration is wrong
├── DataError                 exit 1   the data cannot be used
│   └── TooLittleHistoryError exit 1   too few sessions to do what was asked
├── ProviderError             exit 1   a provider did not deliver
│   ├── NetworkError          exit 1   it could not be reached
│   ├── RateLimitError        exit 1   it asked us to slow down, and kept asking
│   └── UnknownTickerError    exit 1   it does not know the ticker
├── StoreError                exit 1   the lake cannot be read or written
├── ServerError               exit 1   the flow server did not start or answer
└── PartialError              exit 3   some of the work was done; the message names the rest

`models` cannot import this module: its `BundleError` (models.compact.bundle) is caught beside these.
"""

from __future__ import annotations


class TradewindError(Exception):
    """Base of every expected failure; `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(TradewindError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is wrong."""


class DataError(TradewindError):
    """The data cannot be used."""


class TooLittleHistoryError(DataError):
    """Too few sessions to do what was asked."""


class ProviderError(TradewindError):
    """A provider did not deliver."""


class NetworkError(ProviderError):
    """The provider could not be reached."""


class RateLimitError(ProviderError):
    """The provider kept answering that requests come too fast."""


class UnknownTickerError(ProviderError):
    """The provider does not know the ticker."""


class StoreError(TradewindError):
    """The lake cannot be read or written."""


class LookAheadError(TradewindError):
    """The look-ahead audit did not pass; its table has been printed."""


class ServerError(TradewindError):
    """The flow server did not start or answer."""


class PartialError(TradewindError):
    """Some of the work was done; the message names what was not."""

    exit_code = 3
