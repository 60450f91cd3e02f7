"""Every number in README and docs comes from a script here."""
