-- wrk: limit orders that trade, the same as orders.trading: either side, each crossing the mid by up to 50.
local users, mid, spread = 1000, 200000, 50
local headers = { ["Content-Type"] = "application/json" }
local body = '{"method": "order.put_limit", "id": 1, "params": [%d, "BTCUSD", %d, "%.2f", "%d", "0.002", "0.001", "wrk"]}'

function setup(thread)
   started = (started or 0) + 1
   thread:set("seed", started)
end

function init(args)
   math.randomseed(seed)
end

function request()
   local side, beyond = math.random(2), math.random(0, spread)
   local price = side == 2 and mid + beyond or mid - beyond
   return wrk.format("POST", "/", headers, body:format(math.random(users), side, math.random(10) / 100, price))
end
