"""Action connectors."""
