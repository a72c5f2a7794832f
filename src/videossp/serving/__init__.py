"""Adapters as a service: a web page and a REST API."""
