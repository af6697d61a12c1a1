"""Conveniences for programs that use agentrt: `log`, `pprint`."""
