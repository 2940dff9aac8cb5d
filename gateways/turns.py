"""Taking turns: what keeps one client with much work from holding up the others."""

import gevent


def give_way() -> None:
    """Let all others run that can, and look at their sockets; `gevent.sleep(0)` may be back before it looks."""
    hub = gevent.get_hub()
    with hub.loop.timer(0) as timer:
        hub.wait(timer)
