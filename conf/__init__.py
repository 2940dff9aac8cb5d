"""What an operator decides: settings, assets, markets, and where things lie on disk."""
