-- The load of the webhooks part: wrk's arguments after "--" are seconds, and for signed requests a number of this run, the value
-- of the signature's header, and the body. Prints one line of JSON.
local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } bench_time;
    int clock_gettime(int clock, bench_time *time);
]]

local MONOTONIC = 1
local NEVER_MS = 1000000000
local threads = {}
local time = ffi.new("bench_time")

local function now()
    ffi.C.clock_gettime(MONOTONIC, time)
    return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

function setup(thread)
    table.insert(threads, thread)
end

function init(arguments)
    length = tonumber(arguments[1])
    sent = 0
    if not arguments[2] then
        whole = wrk.format("GET")
        return
    end
    -- Only the id differs, so the rest is formatted once.
    local id = "ID OF THIS REQUEST"
    local text = wrk.format("POST", nil, {
        ["Content-Type"] = "application/json",
        ["User-Agent"] = "GitHub-Hookshot/044aadd",
        ["X-GitHub-Event"] = "payment",
        ["X-GitHub-Delivery"] = id,
        ["X-Hub-Signature-256"] = arguments[3],
    }, arguments[4])
    local first, last = text:find(id, 1, true)
    before = text:sub(1, first - 1) .. ("72d3162e-cc78-11e3-%04x-"):format(tonumber(arguments[2]))
    after = text:sub(last + 1)
end

-- Asked before each request. After the last one wrk waits, so that every answer is counted: it does not wait for those that are
-- under way when it ends.
function delay()
    ended = now()
    started = started or ended
    if ended - started >= length then
        return NEVER_MS
    end
    return 0
end

function request()
    if whole then
        return whole
    end
    sent = sent + 1
    return before .. ("%012x"):format(sent) .. after
end

function done(summary, latency)
    local thread = threads[1]
    local errors = summary.errors
    local broken = errors.connect + errors.read + errors.write + errors.timeout
    io.write(('{"requests": %d, "seconds": %.6f, "p50_us": %d, "p99_us": %d, "max_us": %d, "refused": %d, "broken": %d}\n'):format(
        summary.requests, thread:get("ended") - thread:get("started"), latency:percentile(50), latency:percentile(99),
        latency.max, errors.status, broken))
end
