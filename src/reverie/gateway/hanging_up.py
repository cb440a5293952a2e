"""Work for a caller who may hang up before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from reverie.errors import ReverieError
from reverie.gateway.body import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive

T = TypeVar("T")


async def unless_left(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is given up when the caller hangs up. The request's body has been read before.

    Raises:
        ClientGoneError: the caller hung up; there is nobody to answer.
        ReverieError: what `work` raises.
    """
    results: list[T] = []
    refused: list[ReverieError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_left, receive, tasks.cancel_scope)
        try:
            results.append(await work())
        except ReverieError as error:  # as a value: the block would wrap it in a group
            refused.append(error)
        tasks.cancel_scope.cancel()
    if refused:
        raise refused[0]
    if not results:
        raise ClientGoneError("the caller hung up before its answer was there")
    return results[0]


async def _until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
