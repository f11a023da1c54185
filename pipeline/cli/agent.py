"""agent: trading agents, trained and held against the rules to beat."""

from __future__ import annotations

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    agent = typer.Typer(help="Trading agents: train, evaluate, compare with rules, ship.", no_args_is_help=True)
    for command in (train, evaluate, compare, ship):
        agent.command()(command)
    app.add_typer(agent, name="agent")


def train(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Train trading agents on the out-of-sample forecasts of the latest run.

    Every algorithm of [agent] algorithms learns how much to hold of a ticker, by every seed and anew for every test
    block, from the sessions before that block only; a last agent learns from all sessions. Each is kept when it is
    done: after a kill the same command goes on, and more seeds cost only what is new.

    Example: tradewind agent train --set agent.seeds=10
    """
    from pipeline import agent as stage

    run_stage(lambda settings, progress: stage.train(settings, progress), config, set_, json, verbose)


def evaluate(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Trade every agent and every rule out of sample, costs on, and say who beats whom.

    The rules: volatility target, the same with a tuned no-trade band, constant exposure, buy and hold, equal weight,
    momentum. Figures of an algorithm are interquartile means over its seeds; a difference has an interval over
    blocks of sessions and one over seeds. Takes the settings that the agents were trained by.

    Example: tradewind agent evaluate --json
    """
    from pipeline import agent as stage

    run_stage(lambda settings, progress: stage.evaluate(settings, progress), config, set_, json, verbose)


def compare(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Print the table of the latest evaluation.

    Example: tradewind agent compare
    """
    from pipeline import agent as stage

    run_stage(lambda settings, progress: stage.compare(settings, progress), config, set_, json, verbose)


def ship(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Put the best agents of the latest evaluation into the bundle, as one int8 policy.

    All seeds of the algorithm with the highest objective become one small network, which is quantized and compared
    with float32 on every test block. Equal or not shipped: the champion's files and the policy become a new version of
    the bundle, which then scores. tradewind today follows the policy with agent.use on.

    Example: tradewind agent ship
    """
    from pipeline import agent_bundle

    run_stage(lambda settings, progress: agent_bundle.ship(settings, progress), config, set_, json, verbose)
