"""The supervisor: its plan, its acts, its command."""
