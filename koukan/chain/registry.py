"""The built-in filters: which module makes which. A new filter is a module, an options model and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from koukan.chain.filter import Context, Filter
from koukan.chain.filters import (
    add_route,
    authentication_results,
    dkim_check,
    dkim_sign,
    dns_resolution,
    hello,
    message_builder,
    message_parser,
    message_validation,
    policy_action,
    received_header,
    relay_auth,
    remote_host,
    router,
    spf_check,
)
from koukan.chain.plugins import Plugins
from koukan.config import filters
from koukan.config.filters import FilterOptions
from koukan.errors import ConfigError

_BUILDERS: dict[type[FilterOptions], Callable[[Any, Context], Filter | None]] = {
    filters.AddRoute: add_route.build,
    filters.AuthenticationResults: authentication_results.build,
    filters.DkimCheck: dkim_check.build,
    filters.DkimSign: dkim_sign.build,
    filters.DnsResolution: dns_resolution.build,
    filters.Hello: hello.build,
    filters.MessageBuilder: message_builder.build,
    filters.MessageParser: message_parser.build,
    filters.MessageValidation: message_validation.build,
    filters.ReceivedHeader: received_header.build,
    filters.RelayAuth: relay_auth.build,
    filters.RemoteHost: remote_host.build,
    filters.SpfCheck: spf_check.build,
}

#: these look plug-ins up
_BUILDERS_WITH_PLUGINS: dict[type[FilterOptions], Callable[[Any, Context, Plugins], Filter | None]] = {
    filters.PolicyAction: policy_action.build,
    filters.Router: router.build,
}


def build_filter(options: FilterOptions, context: Context, plugins: Plugins) -> Filter | None:
    """The filter that an item of a chain asks for; None when its options turn it off. Raises ConfigError."""
    kind = type(options)
    if kind is filters.PluginFilter:
        return plugins.filter(options.filter, dict(options.model_extra or {}), context)
    if kind in _BUILDERS:
        return _BUILDERS[kind](options, context)
    if kind in _BUILDERS_WITH_PLUGINS:
        return _BUILDERS_WITH_PLUGINS[kind](options, context, plugins)
    raise ConfigError(f"{options.filter} is a sink: it ends a chain, and nothing else")
