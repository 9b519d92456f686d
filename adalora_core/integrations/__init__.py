"""Bridges to other libraries; a program imports only those that it uses."""
