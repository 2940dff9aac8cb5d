"""The supervisor: starts, watches, restarts and stops the processes of an exchange; and `pit`, the command."""
