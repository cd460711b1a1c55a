"""``aliquot``: the command line. Each command lives in a module of its own name, which is
imported when it is called, so that ``aliquot report`` does not load what ``demo`` needs."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "demo": "aliquot.cli.demo",
    "check": "aliquot.cli.check",
    "report": "aliquot.cli.report",
    "apply": "aliquot.cli.apply",
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return None if module is None else getattr(import_module(module), cmd_name)


@click.command(cls=LazyGroup)
@click.version_option(package_name="aliquot")
def main() -> None:
    """GPU sharing for JupyterHub."""


if __name__ == "__main__":
    main()
