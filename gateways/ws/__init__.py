"""The WebSocket gateway: subscriptions of market data, of one's own orders and balances, pushed when they change."""
