"""From the configuration to chains that run: filters built once, sinks given what they need."""

from __future__ import annotations

from collections.abc import Callable

from koukan.chain.engine import Chain
from koukan.chain.filter import Context, Filter, Sink
from koukan.chain.filters.router import RouteGuard
from koukan.chain.plugins import Plugins
from koukan.chain.registry import build_filter
from koukan.config import filters
from koukan.config.filters import FilterOptions
from koukan.config.loader import dotted
from koukan.config.router import ChainConfig
from koukan.errors import ConfigError
from koukan.rest.http import HttpClients
from koukan.rest.output import RestOutputSink
from koukan.router.exploder import ExploderSink, Keeper

#: seconds that RCPT and data wait in an exploder: a submission server queues soon, a relay lets its client wait
MSA_TIMEOUTS = (5.0, 30.0)
RELAY_TIMEOUTS = (30.0, 300.0)

SinkFactory = Callable[[ChainConfig, FilterOptions], Sink]


def compile_chains(context: Context, plugins: Plugins, make_sink: SinkFactory) -> dict[str, Chain]:
    """Every output chain of the configuration, by name. Raises ConfigError."""
    return {
        chain.name: Chain(chain, _links(chain, number, context, plugins), make_sink(chain, chain.sink))
        for number, chain in enumerate(context.config.endpoint)
    }


def _links(config: ChainConfig, number: int, context: Context, plugins: Plugins) -> list[Filter]:
    """The filters of chain `number` of the configuration. Raises ConfigError."""
    links: list[Filter] = []
    for position, options in enumerate(config.chain[:-1]):
        try:
            link = build_filter(options, context, plugins)
        except ConfigError as error:
            path = ("endpoint", number, "chain", position)
            raise ConfigError(f"{dotted(path)}: {error}", path) from error
        if link is not None:
            links.append(link)
    if isinstance(config.sink, filters.RestOutput) and config.sink.static_endpoint is None:
        links.append(RouteGuard())
    return links


def sink_factory(context: Context, clients: HttpClients, keeper: Keeper) -> SinkFactory:
    """Makes the two sinks of a running router. Raises ConfigError.

    A file of certificates that cannot be used shows when the program starts, not with the first mail.
    """
    for endpoint in context.config.rest_endpoint:
        if endpoint.verify is not None:
            clients.trust(endpoint.verify)

    def make(chain: ChainConfig, options: FilterOptions) -> Sink:
        if isinstance(options, filters.RestOutput):
            clients.trust(options.verify)
            return RestOutputSink(options, context, clients)
        if isinstance(options, filters.Exploder):
            msa = chain.exploder_is_msa
            rcpt, data = MSA_TIMEOUTS if msa else RELAY_TIMEOUTS
            return ExploderSink(
                keeper,
                msa=msa,
                rcpt_timeout=rcpt if options.rcpt_timeout is None else options.rcpt_timeout,
                data_timeout=data if options.data_timeout is None else options.data_timeout,
            )
        raise ConfigError(f"endpoint {chain.name!r}: {options.filter} is no sink")

    return make


def check_chains(context: Context, plugins: Plugins) -> None:
    """Build every filter of every chain and throw them away: would they start? Raises ConfigError."""
    for number, chain in enumerate(context.config.endpoint):
        _links(chain, number, context, plugins)
