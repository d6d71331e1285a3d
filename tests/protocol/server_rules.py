"""What Valkey does with a message: rules C, F, L, N, Q of docs/ledger.md, each a function.

They are the ones that the explorer runs, and that the real scripts are compared with. A rule gets
the post as it is and the message; it returns the post as it becomes and the reply, or None if it
does not fit.
"""

from __future__ import annotations

from tests.protocol.state import CIRCLE, Kind, Message, Post, Reply, Token

Answer = tuple[Reply, Token | None]
Outcome = tuple[Post, Answer] | None

_DONE: Answer = (Reply.DONE, None)


def is_older(token: Token, other: Token) -> bool:
    """Of two tokens of one run: the later is the one less than half the circle ahead."""
    return 0 < (other.number - token.number) % CIRCLE < CIRCLE // 2


def given_back_by(post: Post, run: int) -> Token | None:
    """The newest token that the run has given back in doubt."""
    return next((token for token in post.given_back if token.run == run), None)


def c1(post: Post, message: Message) -> Outcome:
    return (post, (Reply.SEEN, None)) if post.remembered else None


def c2(post: Post, message: Message) -> Outcome:
    back = given_back_by(post, message.token.run)
    if back is None or is_older(back, message.token):
        return None
    return post, (Reply.HELD, post.claim)


def c3(post: Post, message: Message) -> Outcome:
    if post.claim is not None:
        return None
    return post._replace(claim=message.token), (Reply.NEW, None)


def c4(post: Post, message: Message) -> Outcome:
    return (post, (Reply.NEW, None)) if post.claim == message.token else None


def c5(post: Post, message: Message) -> Outcome:
    if post.claim is None or post.claim.run != message.token.run:
        return None
    if is_older(post.claim, message.token):
        return post._replace(claim=message.token), (Reply.NEW, None)
    return post, (Reply.HELD, post.claim)


def c6(post: Post, message: Message) -> Outcome:
    if post.claim not in message.dead:
        return None
    return post._replace(claim=message.token), (Reply.TAKEN_OVER, None)


def c7(post: Post, message: Message) -> Outcome:
    return post, (Reply.HELD, post.claim)


def f1(post: Post, message: Message) -> Outcome:
    return post._replace(remembered=True), _DONE


def f2(post: Post, message: Message) -> Outcome:
    if post.claim is None or post.claim.run != message.token.run:
        return None
    return post._replace(claim=None, given_back=()), _DONE


def l1(post: Post, message: Message) -> Outcome:
    if post.claim is None or post.claim.run != message.token.run:
        return None
    return None if is_older(message.token, post.claim) else (post._replace(claim=None), _DONE)


def l2(post: Post, message: Message) -> Outcome:
    if message.kind is not Kind.RELEASE_IN_DOUBT:
        return None
    back = given_back_by(post, message.token.run)
    if back is not None and not is_older(back, message.token):
        return None
    others = (token for token in post.given_back if token.run != message.token.run)
    return post._replace(given_back=tuple(sorted((*others, message.token)))), _DONE


def n1(post: Post, message: Message) -> Outcome:
    return (post, _DONE) if post.claim == message.token else None


def q1(post: Post, message: Message) -> Outcome:
    for token, name, *answer in post.recorded:
        if (token, name) == (message.token, message.name):
            return post, (answer[0], answer[1])
    return None


def q2(post: Post, message: Message) -> Outcome:
    reply, new = Reply.NEW, post._replace(remembered=True, claim=None, given_back=())
    if post.remembered:
        reply, new = Reply.SEEN, post
    elif post.claim is not None and post.claim.run != message.token.run:
        reply = Reply.TAKEN_OVER if post.claim in message.dead else Reply.HELD
        new = post if reply is Reply.HELD else new
    answer = reply, post.claim if reply is Reply.HELD else None
    recorded = tuple(sorted((*post.recorded, (message.token, message.name, *answer))))
    return new._replace(recorded=recorded), answer


FIRST_THAT_FITS = {
    Kind.CLAIM: ("C1", "C2", "C3", "C4", "C5", "C6", "C7"),
    Kind.QUESTION: ("Q1", "Q2"),
}
ALL_THAT_FIT = {
    Kind.CONFIRM: ("F1", "F2"),
    Kind.RELEASE: ("L1",),
    Kind.RELEASE_IN_DOUBT: ("L1", "L2"),
    Kind.RENEW: ("N1",),
}
