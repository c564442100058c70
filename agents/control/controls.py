"""What is cancelled and what is paused at this moment: a fold of the topic `control`. Pure.

Each question costs a few look-ups, however many commands there are; while there is none `any` is False, and nothing
needs to be asked. Folding a record twice, or those of different keys in another order, changes nothing.
"""

from collections.abc import Callable, Iterable

from callstream.agents.control.ancestry import ANCESTRY, above
from callstream.agents.control.commands import (
    FILTER,
    PAUSE,
    RULE,
    AnyCommand,
    Cancel,
    CancelFilter,
    CancelTask,
    PoolRule,
    Scope,
    Subject,
    Switch,
    read,
)
from callstream.agents.inference.choice import MOST_RULES
from callstream.streams.event import TASK_HELD, Event
from callstream.streams.wire import epoch

MOST_TASKS = 100_000
MOST_SCOPES = 1_000
SLACK = 1.1
"""Gateways that take commands side by side may pass a bound by so much before they hear of each other."""

_WAYS: dict[type, str] = {Switch: "resume one", PoolRule: "unset one"}

FilterKey = tuple[str | None, str | None, str | None]


class TooMany(Exception):
    """No more commands of that kind are kept; the message says how many there are and what to do."""


class Controls:
    """Orders in force. `cancels`, `pauses` and `rules_set` grow with each change of theirs: who has acted on one number
    may wait for the next.
    """

    def __init__(self, most_tasks: int = MOST_TASKS, most_scopes: int = MOST_SCOPES) -> None:
        self.any = False
        self.cancels = 0
        self.pauses = 0
        self.rules_set = 0
        self._most_tasks, self._most_scopes = most_tasks, most_scopes
        self._tasks: dict[str, CancelTask] = {}
        self._filters: dict[FilterKey, dict[str, CancelFilter]] = {}
        self._switches: dict[str, Switch] = {}
        self._paused: dict[str, Switch] = {}
        self._rules: dict[str, PoolRule] = {}

    def hear(self, key: str, value: bytes | None) -> None:
        """Fold one record in. Raises BadCommand, and TooMany for what is beyond all bounds; nothing changes then."""
        if value is None:
            self._forget(key)
        else:
            command = read(key, value)
            if not self._is_known(command):
                self._require_room(command, SLACK)
            self._take(command)
        self.any = bool(self._tasks or self._filters or self._paused)

    def require_room(self, command: AnyCommand) -> None:
        """Raises TooMany for an command that would be one too many."""
        if not self._is_known(command):
            self._require_room(command, 1.0)

    def has(self, command: AnyCommand) -> bool:
        """Whether that very command, or a later one of its key, has been heard."""
        match command:
            case CancelTask():
                found: AnyCommand | None = self._tasks.get(command.key)
            case CancelFilter():
                found = self._filters.get(_filter_key(command), {}).get(command.key)
            case Switch():
                found = self._switches.get(command.key)
            case PoolRule():
                found = self._rules.get(command.key)
        return found is not None and found.at >= command.at

    def cancelled(self, subject: Subject) -> Cancel | None:
        """The command by which that task is cancelled, itself or with one above it."""
        found = self._cancelled(subject)
        for one in subject.above:
            found = found or self._cancelled(one)
        return found

    def paused(self, subject: Subject | None, service: str | None = None, pool: str | None = None) -> Switch | None:
        """The pause that keeps a task, a service or a pool waiting."""
        if not self._paused:
            return None
        keys = []
        if subject is not None:
            keys = [f"task/{subject.tenant}/{subject.task}", f"chain/{subject.chain}", f"tenant/{subject.tenant}"]
        keys += [f"{kind}/{name}" for kind, name in (("service", service), ("pool", pool)) if name is not None]
        return next((found for key in keys if (found := self._paused.get(key)) is not None), None)

    def pause_of(self, scope: Scope) -> Switch | None:
        """The pause of exactly that scope."""
        return self._paused.get(scope.key)

    def pauses_in_force(self) -> list[Switch]:
        """Every pause, the oldest first."""
        return sorted(self._paused.values(), key=lambda one: (one.at, one.key))

    def pauses_over(self, has_ended: Callable[[str, str], bool]) -> list[str]:
        """Keys of the pauses of single tasks that have ended; `has_ended` is asked by tenant and task."""
        scopes = ((one.key, one.scope.tenant, one.scope.task) for one in self._paused.values())
        return [key for key, tenant, task in scopes if tenant and task and has_ended(tenant, task)]

    def rule_of(self, pool: str, name: str) -> PoolRule | None:
        """What was commanded last of that rule; it may have been taken away."""
        return self._rules.get(f"{RULE}/{pool}/{name}")

    def pool_rules(self, with_removed: bool = False) -> list[PoolRule]:
        """The rules of all pools, of each in the order in which they are asked; those that were taken away last."""
        found = [one for one in self._rules.values() if with_removed or one.rule is not None]
        return sorted(found, key=lambda one: (one.pool, one.rule is None, one.place, one.name))

    def filters(self) -> list[CancelFilter]:
        """Every filter whose tasks are cancelled, the oldest first."""
        found = (one for kept in self._filters.values() for one in kept.values())
        return sorted(found, key=lambda one: (one.at, one.key))

    @property
    def tasks_cancelled(self) -> int:
        """How many single tasks are remembered as cancelled."""
        return len(self._tasks)

    def expired(self, before: float) -> list[str]:
        """Keys of commands that were given earlier and are not needed any more: all but pauses and rules in force."""
        ended = [one for one in self._switches.values() if not one.paused]
        removed = [one for one in self._rules.values() if one.rule is None]
        commands: Iterable[AnyCommand] = (*self._tasks.values(), *self.filters(), *ended, *removed)
        return [one.key for one in commands if one.at < before]

    def _cancelled(self, subject: Subject) -> Cancel | None:
        found = self._tasks.get(f"cancel/{subject.tenant}/{subject.task}")
        if found is not None and subject.time <= found.before:
            return found
        if not self._filters:
            return None
        reaching = [
            one
            for chain in (subject.chain, None)
            for tenant in (subject.tenant, None)
            for state in (subject.state, None)
            for one in self._filters.get((chain, tenant, state), {}).values()
            if subject.time <= one.before
        ]
        return min(reaching, key=lambda one: (one.at, one.key)) if reaching else None

    def _is_known(self, command: AnyCommand) -> bool:
        match command:
            case CancelTask():
                return command.key in self._tasks
            case CancelFilter():
                return command.key in self._filters.get(_filter_key(command), {})
            case Switch():
                return not command.paused or command.scope.key in self._paused
            case PoolRule():
                found = self._rules.get(command.key)
                return command.rule is None or (found is not None and found.rule is not None)

    def _require_room(self, command: AnyCommand, slack: float) -> None:
        match command:
            case CancelTask():
                kind, count, most = "cancelled tasks", len(self._tasks), self._most_tasks
            case CancelFilter():
                kind, count, most = "filters", sum(map(len, self._filters.values())), self._most_scopes
            case Switch():
                kind, count, most = "pauses", len(self._paused), self._most_scopes
            case PoolRule():
                in_force = self.pool_rules()
                kind, most = f"rules of pool {command.pool}", MOST_RULES
                count = sum(one.pool == command.pool for one in in_force)
                if len(in_force) >= self._most_scopes * slack:
                    kind, count, most = "rules", len(in_force), self._most_scopes
        if count >= most * slack:
            way = _WAYS.get(type(command), "cancel by a filter, or wait until old commands are forgotten")
            raise TooMany(f"{count:,} {kind} are in force and no more are taken: {way}")

    def _take(self, command: AnyCommand) -> None:
        match command:
            case CancelTask():
                self._tasks[command.key] = command
                self.cancels += 1
            case CancelFilter():
                self._filters.setdefault(_filter_key(command), {})[command.key] = command
                self.cancels += 1
            case Switch():
                if command.key in self._switches or len(self._switches) < self._most_scopes * 10:
                    self._switches[command.key] = command
                if command.paused:
                    self._paused[command.scope.key] = command
                else:
                    self._paused.pop(command.scope.key, None)
                self.pauses += 1
            case PoolRule():
                if command.rule is not None or command.key in self._rules or len(self._rules) < self._most_scopes * 10:
                    self._rules[command.key] = command
                self.rules_set += 1

    def _forget(self, key: str) -> None:
        self._tasks.pop(key, None)
        if key.startswith(f"{FILTER}/"):
            for kept in self._filters.values():
                kept.pop(key, None)
            self._filters = {name: kept for name, kept in self._filters.items() if kept}
        if key.startswith(f"{PAUSE}/"):
            self._switches.pop(key, None)
            self._paused.pop(key.removeprefix(f"{PAUSE}/"), None)
        if self._rules.pop(key, None) is not None:
            self.rules_set += 1


def subject_of(event: Event) -> Subject:
    """The task of an event as commands see it."""
    state = "held" if event.type == TASK_HELD else "accepted" if event.sequence == 0 else "running"
    higher = above(event.tenant, event.extensions.get(ANCESTRY, ""))
    return Subject(event.tenant, event.task, event.chain, event.time, state, higher)


def subject_in(headers: Iterable[tuple[str, bytes | None]]) -> Subject | None:
    """The same from a record's headers alone; None for a record that has not all of them."""
    found = {name: value for name, value in headers if name in _READ and value is not None}
    try:
        tenant, task, chain, moment, sequence, kind = (found[name].decode() for name in _NAMES)
        state = "held" if kind == TASK_HELD else "accepted" if int(sequence) == 0 else "running"
        higher = above(tenant, (found.get(f"ce_{ANCESTRY}") or b"").decode())
        return Subject(tenant, task, chain, epoch(moment), state, higher)
    except (KeyError, ValueError, OverflowError):
        return None


_NAMES = ("ce_tenant", "ce_subject", "ce_chain", "ce_time", "ce_sequence", "ce_type")
_READ = frozenset((*_NAMES, f"ce_{ANCESTRY}"))


def _filter_key(command: CancelFilter) -> FilterKey:
    return command.chain, command.tenant, command.state
