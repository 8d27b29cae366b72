"""Timers on threads that end with the session they belong to."""

from everbeat import threading as timers


class Session:
    def __init__(self) -> None:
        self._scope = timers.Scope()
        self.beats = 0
        self.pulse = self._scope.timer(0.02, self._beat, mode="fixed_rate", name="pulse")

    def _beat(self) -> int:
        self.beats += 1
        return self.beats

    def close(self) -> None:
        self._scope.close(5)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


with Session() as session:
    session.pulse.wait(hit_count=3, timeout=10)
    print("triggered:", session.pulse.trigger(timeout=10))
print("running after the session:", session.pulse.is_running())
