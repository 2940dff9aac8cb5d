-- wrk: order.depth of 50 levels.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"method": "order.depth", "id": 1, "params": ["BTCUSD", 50, "0"]}'
