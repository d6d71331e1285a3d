"""The protocol in one scope: which steps are possible in a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.protocol import checks, faults, rules, run_rules, world_rules
from tests.protocol.server_rules import ALL_THAT_FIT, FIRST_THAT_FITS, Answer
from tests.protocol.state import (
    ALIVE,
    WAITS_FOR_A_REPLY,
    Kind,
    Life,
    Message,
    Outage,
    Phase,
    Reply,
    Scope,
    State,
    Token,
)

Label = tuple[str, str, str]
"""The rule, who, and what they do."""
Step = tuple[Label, State]
FAULT = "fault"
TIME = "time"

_RUNS = "ABC"
_OF_AN_ITEM: dict[Phase, tuple[str, ...]] = {
    Phase.START: ("R1",),
    Phase.ASK: ("R2", "O1"),
    Phase.ASKED: ("R4", "W3 told"),
    Phase.CANCELLED: ("R5",),
    Phase.HELD: ("W1", "W2", "W3", "W5", "O1 waits", "R2 again", "W3 time"),
    Phase.WORK: ("R4 work",),
    Phase.STORED: ("R4 stored",),
    Phase.CONFIRMING: ("R4 settled",),
    Phase.RELEASING: ("R4 settled",),
    Phase.KEPT_STORED: (),
    Phase.KEPT_FREE: (),
    Phase.DONE: (),
}
_OF_A_RUN: dict[Life, tuple[str, ...]] = {
    Life.LATER: ("W2 start",),
    Life.UP: ("R6", "R8", "S4", "W2 end", "O1 notices", "O2"),
    Life.FROZEN: ("S4", "thaws"),
    Life.FROZEN_LONG: ("S4", "thaws"),
    Life.KILLED: ("S4",),
    Life.ENDED: ("S4",),
    Life.ENDED_IN_OUTAGE: ("S4",),
}
"""Those that can fit: to ask for the others, too, takes time in each of a million states."""


class Model:
    """The rules at work in one scope. ``changed``: other rules instead of some of them."""

    def __init__(
        self,
        scope: Scope,
        changed: Mapping[str, Callable[..., Any]] | None = None,
        allowed: int = checks.ALL,
    ) -> None:
        """``allowed``: the exceptions that count, as bits."""
        self.scope = scope
        self.allowed = allowed
        self.rule = {**rules.FUNCTIONS, **(changed or {})}
        assert set(self.rule) == set(rules.FUNCTIONS)
        self._of_an_item, self._of_a_run = self._functions(_OF_AN_ITEM), self._functions(_OF_A_RUN)
        self.run_of = [run for run, _ in scope.items]
        self.post_of = [post for _, post in scope.items]
        numbers = range(len(scope.items))
        self.items_of = [
            [n for n in numbers if self.run_of[n] == run] for run in range(1 + max(self.run_of))
        ]
        self.items_at = [
            [n for n in numbers if self.post_of[n] == post] for post in range(1 + max(self.post_of))
        ]
        self.twins_of = [
            [t for t in numbers if t != n and scope.items[t] == scope.items[n]] for n in numbers
        ]
        self._faults = [name.partition(" ") for name in scope.faults]
        self._budget_of = {name: at for at, name in enumerate(scope.faults)}
        self.flickers = "lapse 1" in scope.faults
        self.endless = faults.UNLIMITED in scope.faults.values()
        self.polls = False
        """As real runs do, an item asks again though there is nothing new, and twins wait."""
        self._falls_back = "failover" in scope.faults

    def _functions(self, names: dict[Any, tuple[str, ...]]) -> dict[Any, list[tuple[str, Any]]]:
        return {key: [(name, self.rule[name]) for name in some] for key, some in names.items()}

    # -- Valkey ------------------------------------------------------------------------------------

    def answer(self, post: Any, message: Message) -> tuple[Any, Answer, str]:
        """What Valkey does with a message: the post after it, the reply, the rules that fitted."""
        for name in FIRST_THAT_FITS.get(message.kind, ()):
            outcome = self.rule[name](post, message)
            if outcome is not None:
                return *outcome, name
        fitted = []
        for name in ALL_THAT_FIT.get(message.kind, ()):
            outcome = self.rule[name](post, message)
            if outcome is not None:
                post = outcome[0]
                fitted.append(name)
        return post, (Reply.DONE, None), " ".join(fitted)

    def execute(self, state: State, message: Message) -> tuple[State, Answer, str]:
        """The same, in a state."""
        if message.kind is Kind.BEAT:
            if state.runs[message.token.run].life not in ALIVE:
                for post in range(len(state.posts)):
                    state = run_rules.excuse(state, post, checks.X6)
            return self.rule["B1"](state, message.token.run), (Reply.DONE, None), "B1"
        post = state.posts[message.post]
        new, answer, fitted = self.answer(post, message)
        if new is not post:
            if answer[0] is Reply.TAKEN_OVER:
                new = new._replace(excuses=new.excuses | self._excuse_for(state, post.claim))
            if self._falls_back:
                new = new._replace(before=(post.remembered, post.claim, post.given_back))
            posts = state.posts
            at = message.post
            state = state._replace(posts=(*posts[:at], new, *posts[at + 1 :]))
        return state, answer, fitted

    def _excuse_for(self, state: State, holder: Token | None) -> int:
        """Why a claim may be taken over: X1 or X3."""
        assert holder is not None
        life = state.runs[holder.run].life
        if life is Life.KILLED:
            return checks.X1
        if life is Life.ENDED_IN_OUTAGE:
            return checks.X3
        items = (state.items[number] for number in self.items_of[holder.run])
        cut = any(each.cut and each.first <= holder.number <= each.number for each in items)
        return checks.X1 if cut else 0

    def may_be_silent(self, state: State, run: int) -> bool:
        """Whether a run may not have beaten for all of the grace, outages not counted."""
        life, outage = state.runs[run].life, state.runs[run].outage
        return life not in (Life.UP, Life.FROZEN) or outage is not Outage.NONE

    # -- steps -------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """All that may happen next."""
        yield from self._of_messages(state)
        for number, item in enumerate(state.items):
            run = self.run_of[number]
            if state.runs[run].life is Life.UP:
                for name, rule in self._of_an_item[item.phase]:
                    for what, new in rule(self, state, number):
                        yield (name, f"{_RUNS[run]}{number}", what), new
        for run, each in enumerate(state.runs):
            for name, rule in self._of_a_run[each.life]:
                for what, new in rule(self, state, run):
                    yield (name, _RUNS[run], what), new
        for what, new in world_rules.valkey_is_back(self, state):
            yield (TIME, "Valkey", what), new
        yield from self._faults_of(state)

    def _of_messages(self, state: State) -> Iterator[Step]:
        if state.away:
            return
        repeats = self._budget_of.get("repeat")
        for message in dict.fromkeys(state.net):
            new, (reply, holder), fitted = self.execute(state, message)
            left = new.without(message)
            who = f"{_RUNS[message.token.run]}'s {message.kind.name} {message.token.number}"
            label = (fitted, "Valkey", f"executes {who}")
            number = message.item
            if number >= 0:
                item = left.items[number]
                if item.phase in WAITS_FOR_A_REPLY and item.reply is Reply.NOTHING:
                    left = left.item(number, reply=reply, holder=holder)
            yield label, left
            if repeats is not None and state.budget[repeats]:
                again = self._spent(left, repeats).send(message._replace(item=-1))
                yield (fitted, "Valkey", f"executes {who}, which will come again"), again

    def _faults_of(self, state: State) -> Iterator[Step]:  # noqa: C901 (three kinds of faults)
        for at, (name, _, who) in enumerate(self._faults):
            if not state.budget[at] or name == "repeat":
                continue
            for run in [int(who)] if who else range(len(state.runs)):
                if name in faults.OF_A_RUN:
                    for what, new in faults.OF_A_RUN[name](self, state, run):
                        yield (FAULT, _RUNS[run], what), self._spent(new, at)
                elif name in _SPENT_BY_RULES:
                    for what, new in self.rule[_SPENT_BY_RULES[name]](self, state, run):
                        yield (_SPENT_BY_RULES[name], _RUNS[run], what), self._spent(new, at)
            if name in faults.OF_VALKEY:
                for what, new in faults.OF_VALKEY[name](self, state):
                    yield (FAULT, "Valkey", what), self._spent(new, at)
            if name in _ENDS:
                for post in range(len(state.posts)):
                    for what, new in self.rule[_ENDS[name]](self, state, post):
                        yield (_ENDS[name], f"post {post}", what), self._spent(new, at)
        yield from self._goes_on_in_outage(state)

    def _goes_on_in_outage(self, state: State) -> Iterator[Step]:
        """In an outage every other question is given up as well: that is no other fault."""
        for run, each in enumerate(state.runs):
            if each.outage or (state.away and each.life is Life.UP):
                for what, new in faults.giveup(self, state, run):
                    yield ("O1", _RUNS[run], what), new

    def _spent(self, state: State, at: int) -> State:
        budget = state.budget
        if budget[at] < 0:
            return state
        return state._replace(budget=(*budget[:at], budget[at] - 1, *budget[at + 1 :]))


_SPENT_BY_RULES = {"renew": "R7"}
_ENDS = {"forget": "S1", "day": "S2", "hour": "S3", "minute": "Q1 minute"}
