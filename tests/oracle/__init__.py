"""Servers and command-line programs for tests that ask another etcd for the right answer."""
