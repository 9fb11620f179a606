"""What the convex strategies have in common: a mean of models by weights, gathered or in turn.

A strategy says what each voice weighs. Weights become shares (see `bounded_shares`), and parameters
and buffers are mixed by the same shares, so a variance among the buffers stays a variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from grapevine_agent.merge.voices import (
    Merged,
    Voice,
    bounded_shares,
    larger_count,
    mixed_count,
    unchanged,
    weighted_sum,
)


def merge_gathered(*, local: Voice, received: Sequence[Voice], weights: Sequence[float], max_share: float) -> Merged:
    """The weighted mean of local and received models, all at once.

    `weights` are the local model's and then one for each received model; none is negative, and if all
    are zero they become equal. Age and experience are mixed by the same shares as the models.
    """
    if not received:
        return unchanged(local)
    voices = [local, *received]
    bounded = [voice is not local and voice.kind == "peer" for voice in voices]
    shares = bounded_shares(weights, bounded, max_share)
    by_peer: dict[str, float] = {}
    for voice, share in zip(voices, shares, strict=True):
        by_peer[voice.peer] = by_peer.get(voice.peer, 0.0) + share
    return Merged(
        parameters=weighted_sum([voice.parameters for voice in voices], shares),
        buffers=weighted_sum([voice.buffers for voice in voices], shares),
        age=mixed_count([voice.age for voice in voices], shares),
        experience=mixed_count([voice.experience for voice in voices], shares),
        shares=by_peer,
    )


def take_in(
    own: Voice, voice: Voice, *, weights: tuple[float, float], max_share: float, age_by_max: bool = False
) -> tuple[Voice, float]:
    """`own` after it took `voice` in, and the share that `voice` had. Weights: own, then the voice's.

    Age and experience are mixed by the shares; with `age_by_max` they are the larger ones of those that have a share.
    """
    mine, theirs = bounded_shares(weights, (False, voice.kind == "peer"), max_share)
    mix = larger_count if age_by_max else mixed_count
    own = replace(
        own,
        parameters=weighted_sum((own.parameters, voice.parameters), (mine, theirs)),
        buffers=weighted_sum((own.buffers, voice.buffers), (mine, theirs)),
        age=mix((own.age, voice.age), (mine, theirs)),
        experience=mix((own.experience, voice.experience), (mine, theirs)),
    )
    return own, theirs


def merge_in_turn(
    *,
    local: Voice,
    received: Sequence[Voice],
    weigh: Callable[[Voice, Voice], tuple[float, float]],
    max_share: float,
    age_by_max: bool = False,
) -> Merged:
    """Take the received models in one by one, in order of arrival.

    `weigh` gives the weights of the model as merged so far and of the next one. Shares are those in
    the result: they sum to 1, and a model's share shrinks as later ones are taken in.
    """
    own, shares = local, {local.peer: 1.0}
    for voice in received:
        own, share = take_in(own, voice, weights=weigh(own, voice), max_share=max_share, age_by_max=age_by_max)
        shares = {peer: before * (1 - share) for peer, before in shares.items()}
        shares[voice.peer] = shares.get(voice.peer, 0.0) + share
    return replace(unchanged(own), shares=shares)
